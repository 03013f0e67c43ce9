"""The one owner of run folders and sweep folders: names of files, write, read, status, identity."""
