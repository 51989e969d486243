package io.perdure.example;

import java.io.BufferedReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;

/** A program with four activities: {@code Main BOOTSTRAP NAMESPACE TASK_QUEUE SCHEMAS}. */
public final class Main {
    private static final Duration GRACE = Duration.ofSeconds(5);
    private static final long LOOK_AGAIN_MS = 50;

    private Main() {}

    public static void main(String[] args) throws Exception {
        if (args.length != 4) {
            System.err.println("usage: Main BOOTSTRAP NAMESPACE TASK_QUEUE SCHEMAS");
            System.exit(2);
        }
        ActivityWorker worker = new ActivityWorker(args[0], args[1], args[2], Path.of(args[3]), 20)
                .with("greet", (attempt, arguments) -> "Hello, " + arguments.get(0) + ", from Java!")
                .with("reserve", Main::reserve)
                .with("import_rows", Main::importRows)
                .with("wait_until_cancelled", Main::waitUntilCancelled);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                worker.stop(GRACE);
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        }));
        worker.run();
    }

    /** Fails as often as its second argument says, then succeeds; a negative quantity can never be reserved. */
    private static Object reserve(Attempt attempt, List<Object> arguments) throws ActivityFailure {
        int quantity = (Integer) arguments.get(0);
        int failures = (Integer) arguments.get(1);
        if (quantity < 0) {
            throw new ActivityFailure("InvalidQuantity", "nobody can reserve " + quantity, true);
        }
        if (attempt.number() <= failures) {
            throw new ActivityFailure("WarehouseBusy", "attempt " + attempt.number() + " was too early", false);
        }
        return Map.of("quantity", quantity, "attempt", attempt.number());
    }

    /** Reads a file that somebody still writes, up to the line {@code end}; goes on where the last attempt was. */
    private static Object importRows(Attempt attempt, List<Object> arguments) throws Exception {
        Path file = Path.of((String) arguments.get(0));
        List<Object> last = attempt.heartbeatDetails();
        int resumedAt = last.isEmpty() ? 0 : (Integer) last.get(0);
        List<String> rows = new ArrayList<>();
        try (BufferedReader lines = Files.newBufferedReader(file)) {
            for (int seen = 0; seen < resumedAt; seen++) {
                lines.readLine();
            }
            for (String row = lines.readLine(); !"end".equals(row); row = lines.readLine()) {
                if (row == null) {
                    Thread.sleep(LOOK_AGAIN_MS);
                } else {
                    rows.add(row);
                }
                attempt.heartbeat(resumedAt + rows.size());
            }
        }
        return Map.of("resumed_at", resumedAt, "rows", rows);
    }

    /** Says that it lives until it is told to stop; being told interrupts its thread. */
    private static Object waitUntilCancelled(Attempt attempt, List<Object> arguments) throws Exception {
        attempt.heartbeat("waiting");
        new CountDownLatch(1).await();
        return null;
    }
}
