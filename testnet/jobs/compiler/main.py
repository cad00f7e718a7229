"""Compiles each program of a small language to code for a stack machine, runs it, and lists code and results.

Where the machine has a C compiler, one of the programs is translated to C as well, compiled, and must print the same.
"""

import glob
import os
import shutil
import subprocess
import tempfile

from language import Compiler, CompileError, run

C = """#include <stdio.h>
static long fib(long n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
int main(void) { printf("%ld\\n%d\\n", fib(15), (1 + 2) * 3 - 0 - 4 / 2); return 0; }
"""

results = {}
os.makedirs("listings", exist_ok=True)
for path in glob.glob("programs/*.tl"):
    name = os.path.splitext(os.path.basename(path))[0]
    with open(path, encoding="utf-8") as file:
        compiler = Compiler(file.read())
    code = compiler.program()
    with open(f"listings/{name}.txt", "w", encoding="utf-8") as file:
        for number, (operation, argument) in enumerate(code):
            file.write(f"{number:4} {operation:14} {'' if argument is None else argument}\n")
    results[name] = run(code, compiler.functions)
    print(name, *results[name][0], f"({len(code)} instructions, {results[name][1]} steps)")

for wrong in ("let x = ;", "while 1 { print 1;", "print $;"):
    try:
        Compiler(wrong).program()
        raise SystemExit(f"{wrong!r} was compiled")
    except (CompileError, IndexError) as error:
        print(f"{wrong!r}: {error}")

if shutil.which("gcc"):
    with tempfile.TemporaryDirectory() as directory:
        source, program = os.path.join(directory, "fibonacci.c"), os.path.join(directory, "fibonacci")
        with open(source, "w", encoding="utf-8") as file:
            file.write(C)
        subprocess.run(["gcc", "-O2", "-o", program, source], check=True)
        said = subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()
    assert [int(word) for word in said] == results["fibonacci"][0], said
