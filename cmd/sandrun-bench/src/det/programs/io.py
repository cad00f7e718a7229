"""Writes ten thousand small files and reads each of them."""

import os

os.mkdir("files")
for number in range(10_000):
    with open(f"files/{number}", "w", encoding="utf-8") as file:
        file.write(f"file number {number}\n")
length = 0
for number in range(10_000):
    with open(f"files/{number}", encoding="utf-8") as file:
        length += len(file.read())
print(length)
