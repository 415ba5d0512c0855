"""Many live worlds at once: one engine advances all sessions in shared passes of the model."""
