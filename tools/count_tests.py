#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""count_tests.py BUILD [--failed]: counts every test case of the run in BUILD and prints "N passed, N failed", the failed
ones first.

meson's own report has the GoogleTest cases one by one and each other program as one; pytest's reports (<name>.xml beside
the test's build folder) take the place of their program's line. Programs that ran once more by themselves (the report
"again") count as they did then; those that passed only then are named UNSTEADY. Exits with 1 when a test failed or none
ran; with CI set in the environment also when one was skipped for want of something that tools/setup installs.

--failed: prints the names of the failed programs instead, for "meson test".
"""
import glob
import os
import re
import sys
import xml.etree.ElementTree as tree


# what a machine may lack: the user, the kernel, a compiler that is no dependency
MAY_LACK = re.compile(r"\broot\b|kernel|Landlock|Rust|no such thing", re.IGNORECASE)


def skipped_outcome(skipped):
    why = skipped.get("message") or skipped.text or ""  # pytest's text begins with the file's path, which is no reason
    return "failed" if os.environ.get("CI") and not MAY_LACK.search(why) else "skipped"


def cases_of(path):
    """(program, case, outcome) of each case; the program is None in pytest's reports."""
    for suite in tree.parse(path).getroot().iter("testsuite"):
        # GoogleTest's: "limpet.limpet:unit / base.Hex"; of other programs there is one case each, in the suite "limpet"
        inside = re.fullmatch(r"limpet\.(limpet:.*)\.[^.]*", suite.get("name", ""))
        for case in suite.iter("testcase"):
            program = inside.group(1) if inside else case.get("name") if suite.get("name") == "limpet" else None
            name = "%s: %s" % (case.get("classname", ""), case.get("name"))
            if case.find("failure") is not None or case.find("error") is not None:
                yield program, name, "failed"
            elif case.find("skipped") is not None:
                yield program, name, skipped_outcome(case.find("skipped"))
            else:
                yield program, name, "passed"


def short(program):
    """The name that meson test knows a program by: "base" of "limpet:unit / base"."""
    return program.rsplit(" ", 1)[-1]


def failed_in(cases):
    return {program for program, _, outcome in cases if outcome == "failed"}


def read_run(build):
    """The cases of the run, and the programs that failed in it and passed by themselves."""
    logs = os.path.join(build, "meson-logs")
    started = os.path.getmtime(os.path.join(logs, "started"))

    def fresh(path):
        return os.path.exists(path) and os.path.getmtime(path) >= started

    cases = list(cases_of(os.path.join(logs, "testlog.junit.xml")))
    unsteady = set()
    again = os.path.join(logs, "again.junit.xml")
    if fresh(again):
        second = list(cases_of(again))
        ran = {program for program, _, _ in second}
        unsteady = ran - failed_in(second)
        cases = [case for case in cases if case[0] not in ran] + second
    pytest = [p for p in glob.glob(os.path.join(build, "tests", "**", "*.xml"), recursive=True) if fresh(p)]
    inside = {os.path.splitext(os.path.basename(p))[0] for p in pytest}
    # a program that passed is counted by its cases; one that failed counts itself too: it may have ended before its report
    cases = [case for case in cases if case[2] != "passed" or short(case[0]).split("_", 1)[-1] not in inside]
    for path in pytest:
        cases += cases_of(path)
    return cases, unsteady


def main(build, *options):
    cases, unsteady = read_run(build)
    if "--failed" in options:
        print("\n".join(sorted(short(program) for program in failed_in(cases) if program)))
        return 0
    counts = {outcome: sum(case[2] == outcome for case in cases) for outcome in ("passed", "failed", "skipped")}
    told = {"%s: %s" % (outcome.upper(), name) for _, name, outcome in cases if outcome != "passed"}
    told |= {"UNSTEADY: %s failed beside others and passed by itself" % program for program in unsteady}
    print("\n".join(sorted(told)))
    tail = ", %d skipped" % counts["skipped"] if counts["skipped"] else ""
    tail += ", %d unsteady" % len(unsteady) if unsteady else ""
    print("%d passed, %d failed%s" % (counts["passed"], counts["failed"], tail))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
