"""Run folders and sweep folders: names of files, writing, reading, status, identity."""
