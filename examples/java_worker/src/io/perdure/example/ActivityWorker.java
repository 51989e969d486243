package io.perdure.example;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeMap;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.apache.avro.AvroRuntimeException;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * An activity worker on a bare Kafka client: it reads dispatches from its inbox, runs activities on threads, and writes
 * how they ended as commands.
 *
 * <p>Three kinds of threads: the one that called {@link #run} reads; those of the pool run activities; one sends
 * everything, so that what an attempt says stays in order. The log is the only thing it talks to, and it opens no port.
 */
final class ActivityWorker {
    private static final System.Logger LOG = System.getLogger("perdure");
    private static final int RECORD_BYTES_MAX = 4 * 1024 * 1024;
    private static final long HEARTBEAT_INTERVAL_MS = 1_000;
    private static final long RESEND_AFTER_MS = 1_000;
    private static final long STOP_TIMEOUT_MS = 10_000;

    private final String workerId = UUID.randomUUID().toString().replace("-", "");
    private final String identity = ProcessHandle.current().pid() + "@java-worker";
    private final Wire wire;
    private final String bootstrap;
    private final String prefix;
    private final String taskQueue;
    private final int slots;
    private final Map<String, Activity> activities = new TreeMap<>();
    private final Map<String, Attempt> running = new ConcurrentHashMap<>();
    private final Map<String, Schema> bodies = new ConcurrentHashMap<>();
    private final Inbox inbox = new Inbox();
    private final ScheduledExecutorService sending = Executors.newSingleThreadScheduledExecutor();
    private final ExecutorService pool;
    private final KafkaProducer<byte[], byte[]> producer;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private int partitions;
    private TopicPartition inboxPartition;
    private volatile boolean draining;
    private volatile boolean stopped;

    ActivityWorker(String bootstrap, String namespace, String taskQueue, Path schemas, int slots) throws Exception {
        this.bootstrap = bootstrap;
        this.prefix = "perdure." + namespace + ".";
        this.taskQueue = taskQueue;
        this.slots = slots;
        wire = new Wire(schemas);
        pool = Executors.newFixedThreadPool(slots);
        producer = new KafkaProducer<>(Map.of(
                "bootstrap.servers", bootstrap, "acks", "all", "enable.idempotence", true,
                "max.request.size", RECORD_BYTES_MAX), new ByteArraySerializer(), new ByteArraySerializer());
        consumer = new KafkaConsumer<>(Map.of(
                "bootstrap.servers", bootstrap, "enable.auto.commit", false, "auto.offset.reset", "none",
                "allow.auto.create.topics", false), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Adds an activity, before {@link #run}. */
    ActivityWorker with(String type, Activity activity) {
        activities.put(type, activity);
        return this;
    }

    Set<String> activityTypes() {
        return activities.keySet();
    }

    /** Runs until {@link #stop} is called. */
    void run() throws Exception {
        partitions = producer.partitionsFor(prefix + "commands").size();
        inboxPartition = new TopicPartition(Wire.workTopic(prefix, taskQueue), Wire.partitionOf(workerId, partitions));
        createInbox();
        consumer.assign(List.of(inboxPartition));
        consumer.seekToEnd(List.of(inboxPartition));
        long end = consumer.position(inboxPartition); // looks it up now: no dispatch can come before we register
        LOG.log(System.Logger.Level.INFO, "worker " + workerId + " reads " + inboxPartition + " from " + end);
        sending.scheduleAtFixedRate(() -> heartbeat(false), 0, HEARTBEAT_INTERVAL_MS, TimeUnit.MILLISECONDS);
        while (!stopped) {
            try {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(5))) {
                    take(record);
                }
            } catch (OffsetOutOfRangeException error) { // retention was faster than we: what is left was sent later
                consumer.seekToBeginning(error.partitions());
            } catch (WakeupException error) {
                LOG.log(System.Logger.Level.DEBUG, "asked to stop");
            }
        }
        consumer.close();
    }

    /** Takes nothing new, lets attempts end for a time, then says good-bye. Call it from another thread than run's. */
    void stop(Duration grace) throws InterruptedException {
        draining = true;
        sending.execute(() -> heartbeat(false));
        if (!waitUntilDone(grace.toMillis())) {
            running.values().forEach(attempt -> attempt.stop(Attempt.Stop.WORKER_SHUTDOWN));
            waitUntilDone(STOP_TIMEOUT_MS);
        }
        stopped = true;
        consumer.wakeup();
        CountDownLatch said = new CountDownLatch(1);
        sending.execute(() -> {
            sayGoodBye();
            said.countDown();
        });
        said.await(STOP_TIMEOUT_MS, TimeUnit.MILLISECONDS);
        sending.shutdownNow();
        pool.shutdownNow();
        producer.close(Duration.ofMillis(STOP_TIMEOUT_MS));
    }

    // --- dispatches ----------------------------------------------------------------------------------------------

    private void take(ConsumerRecord<byte[], byte[]> record) {
        if (record.key() == null || !workerId.equals(new String(record.key(), StandardCharsets.UTF_8))) {
            return; // another worker's inbox is in the same partition
        }
        try {
            GenericRecord dispatch = wire.decode("Dispatch", ByteBuffer.wrap(record.value()));
            GenericRecord body = (GenericRecord) dispatch.get("body");
            long nowMs = System.currentTimeMillis();
            switch (body.getSchema().getName()) {
                case "RunTask" -> {
                    GenericRecord task = wire.decode("ActivityTask", (ByteBuffer) body.get("task"));
                    if (inbox.take(dispatch, body.get("task_id").toString(), nowMs)) {
                        begin(new Attempt(this, body, task, nowMs));
                    }
                }
                case "CancelActivity" -> {
                    Attempt attempt = running.get(body.get("task_id").toString());
                    if (inbox.take(dispatch, null, nowMs) && attempt != null) {
                        attempt.stop(reasonOf(body));
                    }
                }
                default -> { // ProbeWorker: the task queue has a new owner
                    if (inbox.take(dispatch, null, nowMs)) {
                        sending.execute(() -> heartbeat(true));
                    }
                }
            }
        } catch (AvroRuntimeException error) {
            LOG.log(System.Logger.Level.ERROR, "offset " + record.offset() + " of the inbox is unreadable", error);
        }
    }

    private static Attempt.Stop reasonOf(GenericRecord cancel) {
        return (Boolean) cancel.get("gone") ? Attempt.Stop.GONE
                : (Boolean) cancel.get("paused") ? Attempt.Stop.PAUSED
                : (Boolean) cancel.get("reset") ? Attempt.Stop.RESET
                : Attempt.Stop.CANCEL_REQUESTED;
    }

    private void begin(Attempt attempt) {
        running.put(attempt.taskId, attempt);
        pool.execute(() -> attempt.run(activities.get(attempt.activityType())));
    }

    // --- what is said to the log ---------------------------------------------------------------------------------

    /** The schema of a member of the union of commands. */
    Schema bodyOf(String name) {
        return bodies.computeIfAbsent(name, one -> wire.schema("Command").getField("body").schema().getTypes().stream()
                .filter(schema -> schema.getName().equals(one))
                .findFirst()
                .orElseThrow());
    }

    /** Does something on the sending thread, later. */
    void later(long delayMs, Runnable what) {
        if (!sending.isShutdown()) {
            sending.schedule(what, delayMs, TimeUnit.MILLISECONDS);
        }
    }

    /** An attempt is over; {@code end} is null if nobody wants to know how. */
    void ended(Attempt attempt, GenericRecord end, GenericRecord lastHeartbeat) {
        running.remove(attempt.taskId);
        if (end == null) {
            inbox.release(attempt.taskId);
            return;
        }
        later(0, () -> {
            if (lastHeartbeat != null) {
                send(attempt, lastHeartbeat, false);
            }
            send(attempt, end, true);
        });
    }

    /** Sends a command about an attempt; its end again and again, until the log has it. On the sending thread. */
    void send(Attempt attempt, GenericRecord body, boolean isEnd) {
        byte[] command = wire.encode(wire.record("Command")
                .set("command_id", isEnd ? attempt.taskId : UUID.randomUUID().toString())
                .set("workflow_id", attempt.workflowId)
                .set("run_id", attempt.runId)
                .set("identity", identity)
                .set("body", body)
                .build());
        int partition = Wire.partitionOf(attempt.workflowId, partitions);
        write("commands", partition, attempt.workflowId, command, error -> {
            if (error == null && isEnd) {
                inbox.finish(attempt.taskId);
            } else if (error != null) {
                LOG.log(System.Logger.Level.WARNING, "a command of " + attempt.taskId + " was not taken", error);
                if (isEnd) {
                    later(RESEND_AFTER_MS, () -> send(attempt, body, true));
                }
            }
        });
    }

    private void heartbeat(boolean probed) {
        GenericRecord heartbeat = wire.record("WorkerHeartbeat")
                .set("worker_id", workerId)
                .set("task_queue", taskQueue)
                .set("identity", identity)
                .set("inbox_partition", (long) inboxPartition.partition())
                .set("workflow_slots", 0L)
                .set("activity_slots", (long) slots)
                .set("time_ms", System.currentTimeMillis())
                .set("draining", draining)
                .build();
        inbox.describe(heartbeat, probed);
        announce(heartbeat);
    }

    private void sayGoodBye() {
        GenericRecord goodBye = wire.record("WorkerStopped")
                .set("worker_id", workerId)
                .set("task_queue", taskQueue)
                .set("time_ms", System.currentTimeMillis())
                .build();
        inbox.describeEnd(goodBye);
        producer.flush(); // what ended before is in the log first
        announce(goodBye);
    }

    private void announce(GenericRecord message) {
        write("workers", Wire.partitionOf(taskQueue, partitions), workerId, wire.encode(message), error -> {
            if (error != null) { // the next one follows
                LOG.log(System.Logger.Level.WARNING, "an announcement was not taken", error);
            }
        });
    }

    private void write(String topic, int partition, String key, byte[] value, Consumer<Exception> whenDone) {
        byte[] keyBytes = key.getBytes(StandardCharsets.UTF_8);
        try {
            producer.send(new ProducerRecord<>(prefix + topic, partition, keyBytes, value),
                    (where, error) -> whenDone.accept(error));
        } catch (KafkaException error) {
            whenDone.accept(error);
        }
    }

    // --- life ----------------------------------------------------------------------------------------------------

    private void createInbox() throws Exception {
        NewTopic topic = new NewTopic(inboxPartition.topic(), Optional.of(partitions), Optional.empty());
        topic.configs(Map.of(
                "cleanup.policy", "delete", "retention.ms", "3600000",
                "max.message.bytes", String.valueOf(RECORD_BYTES_MAX), "message.timestamp.type", "CreateTime"));
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            admin.createTopics(List.of(topic)).all().get();
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof TopicExistsException)) {
                throw error;
            }
        }
    }

    private boolean waitUntilDone(long timeoutMs) throws InterruptedException {
        long deadlineNs = System.nanoTime() + timeoutMs * 1_000_000;
        while (!inbox.isEmpty()) {
            if (System.nanoTime() > deadlineNs) {
                return false;
            }
            Thread.sleep(20);
        }
        return true;
    }
}
