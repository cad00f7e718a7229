// Multiplies the rows that it takes from a shared counter.
const { parentPort, workerData } = require('node:worker_threads');

const { a, b, c, next, size, id } = workerData;
const taken = [];
for (;;) {
  const row = Atomics.add(next, 0, 1);
  if (row >= size) break;
  taken.push(row);
  for (let column = 0; column < size; column += 1) {
    let sum = 0;
    for (let k = 0; k < size; k += 1) sum += a[row * size + k] * b[k * size + column];
    c[row * size + column] = sum;
  }
}
parentPort.postMessage({ id, rows: taken.length, random: Math.random() });
