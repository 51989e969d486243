package io.perdure.example;

/** A failure with a type, which retry policies know it by, and with a word on whether it may be tried again. */
final class ActivityFailure extends Exception {
    private static final long serialVersionUID = 1;
    final String type;
    final boolean nonRetryable;

    ActivityFailure(String type, String message, boolean nonRetryable) {
        super(message);
        this.type = type;
        this.nonRetryable = nonRetryable;
    }
}
