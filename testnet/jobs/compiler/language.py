"""A small language: scanner, parser, code generator with constant folding, and a stack machine."""

import re
from dataclasses import dataclass

TOKEN = re.compile(r"\s*(?:(?P<number>\d+)|(?P<name>[a-z]\w*)|(?P<sign>==|!=|<=|>=|[-+*/%<>=(){},;]))")
KEYWORDS = {"let", "while", "if", "else", "fn", "return", "print"}
LEVELS = [{"==", "!="}, {"<", "<=", ">", ">="}, {"+", "-"}, {"*", "/", "%"}]
OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b),
    "<": lambda a, b: int(a < b),
    "<=": lambda a, b: int(a <= b),
    ">": lambda a, b: int(a > b),
    ">=": lambda a, b: int(a >= b),
}


class CompileError(Exception):
    pass


def scan(text):
    place = 0
    text = text.rstrip()
    while place < len(text):
        match = TOKEN.match(text, place)
        if not match:
            raise CompileError(f"unexpected {text[place]!r} at {place}")
        place = match.end()
        kind = match.lastgroup
        word = match.group(kind)
        yield ("keyword" if word in KEYWORDS else kind, word)
    yield ("end", "")


class Compiler:
    def __init__(self, text):
        self.tokens = list(scan(text))
        self.place = 0
        self.code = []
        self.functions = {}

    def peek(self):
        return self.tokens[self.place][1]

    def take(self, wanted=None):
        kind, word = self.tokens[self.place]
        if wanted is not None and word != wanted:
            raise CompileError(f"expected {wanted!r}, found {word!r}")
        self.place += 1
        return kind, word

    def emit(self, operation, argument=None):
        self.code.append([operation, argument])
        return len(self.code) - 1

    def program(self):
        while self.tokens[self.place][0] != "end":
            self.statement()
        self.emit("halt")
        return self.code

    def block(self):
        self.take("{")
        while self.peek() != "}":
            self.statement()
        self.take("}")

    def statement(self):
        word = self.peek()
        if word == "fn":
            self.function()
        elif word == "while":
            self.take()
            start = len(self.code)
            self.expression()
            out = self.emit("jump_if_zero")
            self.block()
            self.emit("jump", start)
            self.code[out][1] = len(self.code)
        elif word == "if":
            self.take()
            self.expression()
            other = self.emit("jump_if_zero")
            self.block()
            if self.peek() == "else":
                self.take()
                end = self.emit("jump")
                self.code[other][1] = len(self.code)
                self.block()
                self.code[end][1] = len(self.code)
            else:
                self.code[other][1] = len(self.code)
        else:
            self.simple(word)

    def simple(self, word):
        if word in ("print", "return"):
            self.take()
            self.expression()
            self.emit(word)
        else:
            if word == "let":
                self.take()
            name = self.take()[1]
            self.take("=")
            self.expression()
            self.emit("store", name)
        self.take(";")

    def function(self):
        self.take("fn")
        name = self.take()[1]
        over = self.emit("jump")
        self.functions[name] = len(self.code)
        self.take("(")
        parameters = []
        while self.peek() != ")":
            parameters.append(self.take()[1])
            if self.peek() == ",":
                self.take()
        self.take(")")
        for parameter in reversed(parameters):
            self.emit("store", parameter)
        self.block()
        self.emit("push", 0)
        self.emit("return")
        self.code[over][1] = len(self.code)

    def expression(self, level=0):
        if level == len(LEVELS):
            return self.primary()
        self.expression(level + 1)
        while self.peek() in LEVELS[level]:
            sign = self.take()[1]
            self.expression(level + 1)
            if self.code[-1][0] == self.code[-2][0] == "push":
                (_, b), (_, a) = self.code.pop(), self.code.pop()
                self.emit("push", OPERATIONS[sign](a, b))
            else:
                self.emit("operate", sign)

    def primary(self):
        kind, word = self.take()
        if kind == "number":
            self.emit("push", int(word))
        elif word == "(":
            self.expression()
            self.take(")")
        elif kind == "name" and self.peek() == "(":
            self.take()
            count = 0
            while self.peek() != ")":
                self.expression()
                count += 1
                if self.peek() == ",":
                    self.take()
            self.take(")")
            self.emit("call", (word, count))
        elif kind == "name":
            self.emit("load", word)
        else:
            raise CompileError(f"unexpected {word!r}")


@dataclass
class Frame:
    back: int
    names: dict


def run(code, functions):
    """The values that a program prints, and how many instructions it took."""
    stack, frames, printed, at, steps = [], [Frame(0, {})], [], 0, 0
    while True:
        operation, argument = code[at]
        at, steps = at + 1, steps + 1
        if operation == "push":
            stack.append(argument)
        elif operation == "load":
            stack.append(frames[-1].names[argument])
        elif operation == "store":
            frames[-1].names[argument] = stack.pop()
        elif operation == "operate":
            b, a = stack.pop(), stack.pop()
            stack.append(OPERATIONS[argument](a, b))
        elif operation == "jump":
            at = argument
        elif operation == "jump_if_zero":
            at = at if stack.pop() else argument
        elif operation == "call":
            frames.append(Frame(at, {}))
            at = functions[argument[0]]
        elif operation == "return":
            at = frames.pop().back
        elif operation == "print":
            printed.append(stack.pop())
        else:
            return printed, steps
