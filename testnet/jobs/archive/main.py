"""Packs a folder in several formats, takes each apart again, and compares sizes and checksums.

Archives hold the files' dates and the time of packing, as tools write them unless told otherwise.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
import zlib

SOURCE = "documents"


def checksums(root):
    sums = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                sums[os.path.relpath(path, root)] = hashlib.sha256(file.read()).hexdigest()
    return sums


def huffman_bits(data):
    """Bits of a Huffman code of the bytes: how near a plain entropy coder comes."""
    import heapq
    from collections import Counter

    heap = [(count, index) for index, count in enumerate(Counter(data).values())]
    heapq.heapify(heap)
    bits, number = 0, len(heap)
    while len(heap) > 1:
        (a, _), (b, _) = heapq.heappop(heap), heapq.heappop(heap)
        bits += a + b
        heapq.heappush(heap, (a + b, number))
        number += 1
    return bits


with tarfile.open("documents.tar.gz", "w:gz") as archive:
    archive.add(SOURCE)
with zipfile.ZipFile("documents.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    for directory, _, names in os.walk(SOURCE):
        for name in names:
            archive.write(os.path.join(directory, name))
subprocess.run("tar cf - documents | gzip -9 > by-tar.tar.gz", shell=True, check=True)

original = checksums(SOURCE)
for name in ("documents.tar.gz", "documents.zip", "by-tar.tar.gz"):
    target = tempfile.mkdtemp()
    shutil.unpack_archive(name, target)
    assert checksums(os.path.join(target, SOURCE)) == original, name
    shutil.rmtree(target)

data = b"".join(open(os.path.join(SOURCE, name), "rb").read() for name in sorted(original))
buffer = io.BytesIO()
with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
    file.write(data)
sizes = {
    "plain": len(data),
    "zlib": len(zlib.compress(data, 9)),
    "gzip": len(buffer.getvalue()),
    "bz2": len(bz2.compress(data)),
    "lzma": len(lzma.compress(data)),
    "huffman": huffman_bits(data) // 8,
}
with open("sizes.json", "w", encoding="utf-8") as file:
    json.dump({"sizes": sizes, "files": original}, file, indent=1)
print(", ".join(f"{name} {size}" for name, size in sizes.items()))
