package io.perdure.example;

import java.util.List;

/** The code of an activity. */
@FunctionalInterface
interface Activity {
    /**
     * Runs one attempt.
     *
     * @return the result: {@code null}, bytes, or what JSON can express
     * @throws ActivityFailure to say the type of the failure, and whether another attempt makes sense
     * @throws InterruptedException the attempt was asked to stop, and has stopped
     */
    Object run(Attempt attempt, List<Object> arguments) throws Exception;
}
