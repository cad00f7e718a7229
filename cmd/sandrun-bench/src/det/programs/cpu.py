"""Computes for some seconds: integers, floats, texts and dictionaries."""


def work(rounds):
    total, shares, words = 0, 0.0, {}
    for number in range(rounds):
        total += number * number % 7
        shares += 1.0 / (number + 1)
        if number % 16 == 0:
            word = str(number % 1000)
            words[word] = words.get(word, 0) + 1
    return total, shares, len(words)


print(work(26_000_000))
