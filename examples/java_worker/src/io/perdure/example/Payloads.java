package io.perdure.example;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.util.Utf8;

/** Values of users: their data is JSON, bytes or nothing, as the {@code encoding} in their metadata says. */
final class Payloads {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Utf8 ENCODING = new Utf8("encoding");

    private Payloads() {}

    /**
     * Payloads for an array of them, whose schema is given.
     *
     * @throws ActivityFailure they have more than {@code bytesMax} bytes together
     */
    static List<GenericRecord> encode(Schema array, List<?> values, int bytesMax) throws IOException, ActivityFailure {
        List<GenericRecord> payloads = new ArrayList<>();
        int bytes = 0;
        for (Object value : values) {
            GenericRecord payload = new GenericData.Record(array.getElementType());
            String encoding = value == null ? "binary/null" : value instanceof byte[] ? "binary/plain" : "json/plain";
            byte[] data = value instanceof byte[] raw ? raw : value == null ? new byte[0] : JSON.writeValueAsBytes(value);
            payload.put("metadata", Map.of("encoding", ByteBuffer.wrap(encoding.getBytes(StandardCharsets.UTF_8))));
            payload.put("data", ByteBuffer.wrap(data));
            payloads.add(payload);
            bytes += data.length;
        }
        if (bytes > bytesMax) {
            String message = bytes + " bytes; " + bytesMax + " are allowed. Send a reference to the data instead";
            throw new ActivityFailure("PayloadSizeExceeded", message, true);
        }
        return payloads;
    }

    /** The values of an array of payloads, as JSON has them: strings, numbers, lists, maps. */
    static List<Object> decode(Object payloads) throws IOException {
        List<Object> values = new ArrayList<>();
        for (Object one : (List<?>) payloads) {
            GenericRecord payload = (GenericRecord) one;
            ByteBuffer name = (ByteBuffer) ((Map<?, ?>) payload.get("metadata")).get(ENCODING);
            String encoding = name == null ? "<none>" : StandardCharsets.UTF_8.decode(name.duplicate()).toString();
            ByteBuffer data = ((ByteBuffer) payload.get("data")).duplicate();
            byte[] bytes = new byte[data.remaining()];
            data.get(bytes);
            values.add(switch (encoding) {
                case "binary/null" -> null;
                case "binary/plain" -> bytes;
                case "json/plain" -> JSON.readValue(bytes, Object.class);
                default -> throw new IOException("a payload has the unknown encoding " + encoding);
            });
        }
        return values;
    }
}
