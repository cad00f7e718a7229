'use strict';

/** The report as a Markdown page with a confusion matrix. */
function markdown(report) {
  const species = Object.keys(report.confusion).sort();
  const lines = [
    '# Penguin species from four measurements',
    '',
    `${report.right} of ${report.used} right (${(100 * report.accuracy).toFixed(1)} %), k = ${report.neighbours}.`,
    '',
    `| is \\ taken for | ${species.join(' | ')} |`,
    `| --- |${' ---: |'.repeat(species.length)}`,
    ...species.map((is) => `| ${is} | ${species.map((as) => report.confusion[is][as] ?? 0).join(' | ')} |`),
  ];
  return `${lines.join('\n')}\n`;
}

module.exports = { markdown };
