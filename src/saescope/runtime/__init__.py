"""The machine: device, processes, allocator, progress meter."""
