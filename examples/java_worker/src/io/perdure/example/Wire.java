package io.perdure.example;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import java.util.zip.CRC32;
import org.apache.avro.AvroRuntimeException;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.avro.message.BinaryMessageEncoder;

/**
 * The bytes of the protocol: records in Avro's single-object encoding, names of topics, and the partitioner.
 *
 * <p>Records are written with the schemas of the folder itself and read with those and all in {@code versions/},
 * whichever wrote them. Safe for several threads.
 */
final class Wire {
    /** Characters of a task queue in the name of its topic; a longer one gets a checksum. */
    private static final int QUEUE_CHARS_MAX = 140;

    private final Map<String, Schema> schemas = new HashMap<>();
    private final Map<String, BinaryMessageEncoder<GenericRecord>> encoders = new HashMap<>();
    private final Map<String, BinaryMessageDecoder<GenericRecord>> decoders = new HashMap<>();

    Wire(Path folder) throws IOException {
        for (Path file : avscFiles(folder, 1)) {
            Schema schema = parse(file);
            schemas.put(schema.getName(), schema);
            encoders.put(schema.getName(), new BinaryMessageEncoder<>(GenericData.get(), schema));
            decoders.put(schema.getName(), new BinaryMessageDecoder<>(GenericData.get(), schema));
        }
        if (schemas.isEmpty()) {
            throw new IOException("there are no .avsc files in " + folder);
        }
        for (Path file : avscFiles(folder, 3)) {
            Schema writer = parse(file);
            if (decoders.containsKey(writer.getName())) {
                decoders.get(writer.getName()).addSchema(writer);
            }
        }
    }

    private static List<Path> avscFiles(Path folder, int depth) throws IOException {
        try (Stream<Path> files = Files.walk(folder, depth)) {
            return files.filter(file -> file.toString().endsWith(".avsc")).sorted().toList();
        }
    }

    private static Schema parse(Path file) throws IOException {
        return new Schema.Parser().parse(Files.readString(file)); // each file is complete in itself
    }

    /** A builder of a record, with all defaults. */
    GenericRecordBuilder record(String name) {
        return new GenericRecordBuilder(schemas.get(name));
    }

    /** A builder of a record that stands inside another one: an item of an array, or a branch of a union. */
    static GenericRecordBuilder inside(Schema holder, String field, String name) {
        Schema schema = holder.getField(field).schema();
        Stream<Schema> candidates =
                schema.isUnion() ? schema.getTypes().stream()
                : Stream.of(schema.getType() == Schema.Type.ARRAY ? schema.getElementType() : schema);
        return candidates
                .filter(one -> one.getType() == Schema.Type.RECORD && one.getName().equals(name))
                .map(GenericRecordBuilder::new)
                .findFirst()
                .orElseThrow(() -> new IllegalArgumentException(holder.getName() + "." + field + " holds no " + name));
    }

    Schema schema(String name) {
        return schemas.get(name);
    }

    byte[] encode(GenericRecord record) {
        try {
            ByteBuffer encoded = encoders.get(record.getSchema().getName()).encode(record);
            byte[] bytes = new byte[encoded.remaining()];
            encoded.get(bytes);
            return bytes;
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /**
     * Reads a record of a type.
     *
     * @throws AvroRuntimeException it is none, or was written with a schema that is not in the folder
     */
    GenericRecord decode(String name, ByteBuffer bytes) {
        try {
            return decoders.get(name).decode(bytes);
        } catch (IOException error) {
            throw new AvroRuntimeException("a damaged " + name, error);
        }
    }

    /** The partition of a key: CRC-32 of its bytes, unsigned, modulo the number of partitions. */
    static int partitionOf(String key, int partitions) {
        return (int) (crc32(key) % partitions);
    }

    /** The topic of a task queue's inboxes. */
    static String workTopic(String prefix, String taskQueue) {
        String legal = taskQueue.codePoints()
                .map(c -> c < 128 && (Character.isLetterOrDigit(c) || "._-".indexOf(c) >= 0) ? c : '_')
                .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append)
                .toString();
        if (!legal.equals(taskQueue) || legal.length() > QUEUE_CHARS_MAX) {
            legal = legal.substring(0, Math.min(legal.length(), QUEUE_CHARS_MAX))
                    + String.format("-%08x", crc32(taskQueue));
        }
        return prefix + "work." + legal;
    }

    private static long crc32(String text) {
        CRC32 crc = new CRC32();
        crc.update(text.getBytes(StandardCharsets.UTF_8));
        return crc.getValue();
    }
}
