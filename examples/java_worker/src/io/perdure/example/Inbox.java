package io.perdure.example;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.avro.generic.GenericRecord;

/**
 * What a worker knows of the tasks it was given.
 *
 * <p>A dispatch of an older epoch than the newest seen is void; a task that is held, or was finished, is not taken
 * again; a task is held until the log has its completion. Safe for several threads: what a heartbeat says is seen at one
 * moment.
 */
final class Inbox {
    private static final int FINISHED_MAX = 5_000;

    private final Map<String, Long> held = new LinkedHashMap<>();
    private final Set<String> finished = new LinkedHashSet<>();
    private final Map<Integer, Long> epochs = new HashMap<>();
    private long lastEpoch = -1;
    private long lastNumber = 0;

    /** Notes a dispatch; true if it is to be obeyed. A task is held from here on. */
    synchronized boolean take(GenericRecord dispatch, String taskId, long nowMs) {
        int source = ((Long) dispatch.get("source_partition")).intValue();
        long epoch = (Long) dispatch.get("epoch");
        long number = (Long) dispatch.get("dispatch_number");
        if (epoch < epochs.getOrDefault(source, -1L)) {
            return false;
        }
        epochs.put(source, epoch);
        lastNumber = epoch == lastEpoch ? Math.max(number, lastNumber) : number;
        lastEpoch = epoch;
        return taskId == null || (!finished.contains(taskId) && held.putIfAbsent(taskId, nowMs) == null);
    }

    /** The log has the completion of a task. */
    synchronized void finish(String taskId) {
        if (held.remove(taskId) != null) {
            finished.add(taskId);
            if (finished.size() > FINISHED_MAX) {
                finished.remove(finished.iterator().next());
            }
        }
    }

    /** A task ended and nobody is told: it may come again. */
    synchronized void release(String taskId) {
        held.remove(taskId);
    }

    synchronized boolean isEmpty() {
        return held.isEmpty();
    }

    /** Fills in what a heartbeat says of the tasks; those finished last are for a new owner of the task queue only. */
    synchronized void describe(GenericRecord heartbeat, boolean probed) {
        List<GenericRecord> tasks = new ArrayList<>();
        held.forEach((taskId, startedMs) -> tasks.add(Wire.inside(heartbeat.getSchema(), "held", "HeldTask")
                .set("task_id", taskId)
                .set("started_time_ms", startedMs)
                .build()));
        heartbeat.put("held", tasks);
        heartbeat.put("finished", probed ? List.copyOf(finished) : List.of());
        heartbeat.put("last_dispatch_epoch", lastEpoch);
        heartbeat.put("last_dispatch_number", lastNumber);
    }

    /** Fills in how far the inbox was read, for the good-bye. */
    synchronized void describeEnd(GenericRecord stopped) {
        stopped.put("last_dispatch_epoch", lastEpoch);
        stopped.put("last_dispatch_number", lastNumber);
    }
}
