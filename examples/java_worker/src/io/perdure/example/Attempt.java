package io.perdure.example;

import java.io.IOException;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;

/**
 * One attempt of an activity: what its code may ask and say, and how it ends.
 *
 * <p>Its code runs on a thread of its own; dispatches reach it from the worker's thread. Heartbeats go out no more
 * often than their throttle interval; the last one is not lost while the attempt runs, nor before a failure.
 */
final class Attempt {
    static final int RESULT_BYTES_MAX = 2 * 1024 * 1024;
    static final int HEARTBEAT_BYTES_MAX = 512 * 1024;
    private static final int TEXT_CHARS_MAX = 16_384;

    /** Why an attempt is asked to stop. */
    enum Stop { CANCEL_REQUESTED, GONE, PAUSED, RESET, WORKER_SHUTDOWN }

    final String taskId;
    final String workflowId;
    final String runId;
    private final GenericRecord task;
    private final GenericRecord options;
    private final ActivityWorker worker;
    private final long startedMs;
    private Thread thread;
    private Stop stop;
    private GenericRecord heldBack;
    private boolean throttled;
    private boolean ended;

    Attempt(ActivityWorker worker, GenericRecord run, GenericRecord task, long startedMs) {
        this.worker = worker;
        this.taskId = run.get("task_id").toString();
        this.workflowId = run.get("workflow_id").toString();
        this.runId = run.get("run_id").toString();
        this.task = task;
        this.options = (GenericRecord) task.get("options");
        this.startedMs = startedMs;
    }

    // --- for the activity's code ---------------------------------------------------------------------------------

    /** Which attempt this is, from 1 on. */
    long number() {
        return Math.max(1, (Long) task.get("attempt") - (Long) task.get("attempts_before"));
    }

    /** The details of the last heartbeat of the attempt before; empty if there is none. */
    List<Object> heartbeatDetails() throws IOException {
        return Payloads.decode(task.get("heartbeat_details"));
    }

    /**
     * Says that the attempt lives, and how far it is.
     *
     * @throws InterruptedException it is to stop
     * @throws ActivityFailure the details are too large
     */
    void heartbeat(Object... details) throws IOException, InterruptedException, ActivityFailure {
        GenericRecordBuilder body = body("ActivityTaskHeartbeat");
        Schema array = schemaOf("ActivityTaskHeartbeat", "details");
        body.set("details", Payloads.encode(array, Arrays.asList(details), HEARTBEAT_BYTES_MAX));
        synchronized (this) {
            if (stop != null) {
                throw new InterruptedException("the attempt is asked to stop: " + stop);
            }
            heldBack = body.build();
            if (!throttled) {
                throttled = true;
                worker.later(0, this::sendHeldBack);
            }
        }
    }

    // --- for the worker ------------------------------------------------------------------------------------------

    String activityType() {
        return options.get("activity_type").toString();
    }

    /** Runs the code, and says how it ended. */
    void run(Activity activity) {
        GenericRecord end;
        try {
            if (activity == null) {
                String message = "this worker has no activity " + activityType() + "; it has " + worker.activityTypes();
                throw new ActivityFailure("NotFoundError", message, true);
            }
            enter();
            Object result = activity.run(this, Payloads.decode(options.get("input")));
            List<Object> values = Collections.singletonList(result);
            Schema array = schemaOf("ActivityTaskCompleted", "result");
            end = body("ActivityTaskCompleted").set("result", Payloads.encode(array, values, RESULT_BYTES_MAX)).build();
            leave(false);
        } catch (Throwable error) {
            end = endOf(error);
            leave(true);
        }
        worker.ended(this, isGone() ? null : end, heldBack);
    }

    /** Asks the code to stop: its thread is interrupted, once. */
    synchronized void stop(Stop reason) {
        boolean evenWithoutHeartbeats = reason != Stop.PAUSED && reason != Stop.RESET;
        if (evenWithoutHeartbeats || options.get("heartbeat_timeout_ms") != null) {
            boolean first = stop == null;
            stop = first || reason == Stop.GONE ? reason : stop;
            if (first && thread != null) {
                thread.interrupt();
            }
        }
    }

    private synchronized void enter() throws InterruptedException {
        if (stop != null) {
            throw new InterruptedException("it was stopped before it began");
        }
        thread = Thread.currentThread();
    }

    /** The code is over. What it said last matters to the next attempt only, so a success need not send it. */
    private synchronized void leave(boolean keepsHeartbeat) {
        thread = null;
        ended = true;
        heldBack = keepsHeartbeat ? heldBack : null;
        Thread.interrupted(); // an interrupt that came too late must not hit the thread's next attempt
    }

    private synchronized boolean isGone() {
        return stop == Stop.GONE;
    }

    /** On the worker's sending thread: sends what was held back, and holds back what comes in the next interval. */
    private synchronized void sendHeldBack() {
        throttled = !ended && heldBack != null;
        if (throttled) {
            worker.send(this, heldBack, false);
            heldBack = null;
            Long timeoutMs = (Long) options.get("heartbeat_timeout_ms");
            worker.later(timeoutMs == null ? 30_000 : Math.min(timeoutMs * 8 / 10, 60_000), this::sendHeldBack);
        }
    }

    /** How an attempt that did not return ended. */
    private synchronized GenericRecord endOf(Throwable error) {
        if (error instanceof InterruptedException && stop == Stop.CANCEL_REQUESTED) {
            return body("ActivityTaskCanceled").build();
        }
        String type = error instanceof ActivityFailure known ? known.type : error.getClass().getSimpleName();
        if (error instanceof InterruptedException && stop != null) {
            type = switch (stop) {
                case PAUSED -> "ActivityPause";
                case RESET -> "ActivityReset";
                default -> "WorkerShutdown";
            };
        }
        StringWriter trace = new StringWriter();
        error.printStackTrace(new PrintWriter(trace));
        GenericRecordBuilder failure = Wire.inside(worker.bodyOf("ActivityTaskFailed"), "failure", "Failure")
                .set("kind", "APPLICATION")
                .set("source", "java-worker")
                .set("type", type)
                .set("message", cut(String.valueOf(error.getMessage())))
                .set("stack_trace", cut(trace.toString()))
                .set("non_retryable", error instanceof ActivityFailure known && known.nonRetryable);
        return body("ActivityTaskFailed").set("failure", failure.build()).build();
    }

    private static String cut(String text) {
        return text.length() <= TEXT_CHARS_MAX ? text : text.substring(0, TEXT_CHARS_MAX);
    }

    private Schema schemaOf(String body, String field) {
        return worker.bodyOf(body).getField(field).schema();
    }

    /** What every message about an attempt says: which one it is. */
    private GenericRecordBuilder body(String name) {
        return new GenericRecordBuilder(worker.bodyOf(name))
                .set("scheduled_event_id", task.get("scheduled_event_id"))
                .set("attempt", task.get("attempt"))
                .set("started_time_ms", startedMs);
    }
}
