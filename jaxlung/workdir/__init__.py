"""What a run leaves on disk: its record, checkpoints and progress; whether they are whole."""
