"""Statistics of texts: words, sentences, readability, Zipf's law, frequent pairs, and a sentence made by a Markov chain.

Reads every file of texts/ in the order in which the directory lists them; writes words.csv and report.md.
"""

import collections
import csv
import math
import os
import random
import re
import threading

lock = threading.Lock()
found = {}


def study(name):
    with open(os.path.join("texts", name), encoding="utf-8") as file:
        text = file.read()
    words = re.findall(r"[a-z']+", text.lower())
    sentences = [part for part in re.split(r"[.!?]+\s", text) if part.strip()]
    syllables = sum(max(1, len(re.findall(r"[aeiouy]+", word))) for word in words)
    ease = 206.835 - 1.015 * len(words) / len(sentences) - 84.6 * syllables / len(words)
    with lock:
        found[name] = (words, len(sentences), ease)


threads = [threading.Thread(target=study, args=(name,)) for name in os.listdir("texts")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

counts = collections.Counter()
pairs = collections.Counter()
follow = collections.defaultdict(list)
for words, _, _ in found.values():
    counts.update(words)
    pairs.update(zip(words, words[1:]))
    for word, following in zip(words, words[1:]):
        follow[word].append(following)

with open("words.csv", "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["rank", "word", "count", "share"])
    for rank, (word, count) in enumerate(counts.most_common(50), 1):
        writer.writerow([rank, word, count, f"{count / counts.total():.5f}"])

xs = [math.log(rank) for rank in range(1, 51)]
ys = [math.log(count) for _, count in counts.most_common(50)]
mean_x, mean_y = sum(xs) / 50, sum(ys) / 50
slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / sum((x - mean_x) ** 2 for x in xs)

word = random.choice(sorted(set(counts)))
sentence = [word]
while len(sentence) < 15 and follow[word]:
    word = random.choice(follow[word])
    sentence.append(word)

with open("report.md", "w", encoding="utf-8") as file:
    for name, (words, sentences, ease) in found.items():
        file.write(f"- {name}: {len(words)} words, {sentences} sentences, reading ease {ease:.2f}\n")
    file.write(f"\nZipf exponent {slope:.4f}; words that occur once: {sum(n == 1 for n in counts.values())}\n\n")
    file.write("Frequent pairs: " + ", ".join(f"{a} {b}" for (a, b), _ in pairs.most_common(8)) + "\n\n")
    file.write("> " + " ".join(sentence) + "\n")
once = {word for word, count in counts.items() if count == 1}
print(f"{counts.total()} words, {len(counts)} different; some of those that occur once:", *list(once)[:5])
