// Worker threads and timers: who comes first, at which time, with which random numbers.
const { Worker, isMainThread, parentPort, workerData, threadId } = require('node:worker_threads');
const { randomUUID, randomBytes } = require('node:crypto');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');

if (!isMainThread) {
  const shared = new Int32Array(workerData);
  let sum = 0;
  for (let i = 0; i < 20000; i += 1) {
    sum += Math.random();
    Atomics.add(shared, 0, 1);
    if (i % 5000 === 0) parentPort.postMessage([threadId, i, Atomics.load(shared, 0)]);
  }
  setTimeout(() => parentPort.postMessage([threadId, sum, performance.now()]), Math.random() * 10);
} else {
  const seen = [];
  const buffer = new SharedArrayBuffer(4);
  const workers = Array.from({ length: 4 }, () => new Promise((resolve) => {
    const worker = new Worker(__filename, { workerData: buffer });
    worker.on('message', (message) => seen.push(message));
    worker.on('exit', resolve);
  }));
  for (let n = 0; n < 10; n += 1) {
    setTimeout(() => seen.push(['timer', n, Date.now()]), (n * 7) % 5);
    setImmediate(() => seen.push(['immediate', n]));
    fs.readFile(__filename, () => seen.push(['read', n]));
  }
  const child = new Promise((resolve) => {
    execFile(process.execPath, ['-p', '[process.pid, Math.random(), Date.now()]'], (_, text) => resolve(text));
  });
  Promise.all([...workers, child]).then((ends) => {
    console.log(JSON.stringify(seen));
    console.log(ends[4], new Int32Array(buffer)[0]);
    console.log(randomUUID(), randomBytes(8).toString('hex'), Math.random(), new Date().toISOString());
    console.log(process.pid, process.hrtime.bigint(), process.memoryUsage.rss(), process.uptime(), process.cpuUsage());
    console.log(os.hostname(), os.cpus().length, os.cpus()[0].model, os.totalmem(), os.freemem(), os.loadavg(), os.uptime());
    console.log(new Set(fs.readdirSync('/usr/bin').slice(0, 3)), fs.statSync(__filename).mtimeMs, process.resourceUsage().maxRSS);
  });
}
