// Classifies penguins by species from their measurements and says how often it is right (leave one out).
// usage: main.js [--neighbours K] [--data FILE]
'use strict';

const fs = require('node:fs');
const { parseArgs } = require('node:util');
const { standardise } = require('./lib/scale.js');
const { classify } = require('./lib/neighbours.js');
const { markdown } = require('./lib/report.js');

const { values } = parseArgs({
  options: {
    neighbours: { type: 'string', default: '3' },
    data: { type: 'string', default: 'data/penguins.json' },
  },
});
const neighbours = Number.parseInt(values.neighbours, 10);
const features = ['Beak Length (mm)', 'Beak Depth (mm)', 'Flipper Length (mm)', 'Body Mass (g)'];

const penguins = JSON.parse(fs.readFileSync(values.data, 'utf8'));
const complete = penguins.filter((it) => features.every((name) => Number.isFinite(it[name])));
const points = standardise(complete.map((it) => features.map((name) => it[name])));
const samples = complete.map((it, index) => ({ species: it.Species, point: points[index] }));

const confusion = {};
let right = 0;
samples.forEach((sample, index) => {
  const others = samples.filter((_, other) => other !== index);
  const guess = classify(sample.point, others, neighbours);
  confusion[sample.species] ??= {};
  confusion[sample.species][guess] = (confusion[sample.species][guess] ?? 0) + 1;
  if (guess === sample.species) right += 1;
});

const report = {
  neighbours,
  penguins: penguins.length,
  used: samples.length,
  right,
  accuracy: Number((right / samples.length).toFixed(4)),
  confusion,
};
fs.writeFileSync('report.json', `${JSON.stringify(report, null, 2)}\n`);
fs.writeFileSync('report.md', markdown(report));
console.log(`${right} of ${samples.length} penguins classified rightly with ${neighbours} neighbours`);
