"""What `benchmarks/speed/speed.py` compares: each module builds the same U-Net in one framework."""
