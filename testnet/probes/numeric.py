"""NumPy: random numbers, linear algebra, transforms; sums whose order matters."""

import time

import numpy

generator = numpy.random.default_rng()
numpy.random.seed(None)
matrix = generator.normal(size=(120, 120)) + numpy.random.random((120, 120))
left, values, right = numpy.linalg.svd(matrix)
print("numpy", numpy.__version__, matrix[0, :3], values[:3], numpy.linalg.det(matrix / 10))
print("product", (matrix @ matrix.T).sum(), numpy.linalg.eigvals(matrix)[:2], numpy.linalg.solve(matrix, matrix[0])[:2])
print("fft", numpy.fft.fft(matrix[0])[:2], numpy.exp(matrix).sum(), numpy.sin(matrix).sum(), numpy.log(abs(matrix)).mean())
print("sum", matrix.astype(numpy.float32).sum(), numpy.float32(matrix).std(), numpy.sort(matrix, axis=None)[:2])
print("address", matrix.ctypes.data % 4096, matrix.__array_interface__["data"], time.time())
