"""What a caption costs on this machine: time, memory, energy."""
