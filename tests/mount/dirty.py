"""Stores to each page of a mapping of the file that is named, and forces nothing out."""

import mmap
import os
import sys

PAGE = 4096

file = os.open(sys.argv[1], os.O_RDWR)
size = os.fstat(file).st_size
pages = mmap.mmap(file, size)
for at in range(0, size, PAGE):
    pages[at : at + 8] = at.to_bytes(8, "little")
pages.close()
os.close(file)
