"""What README, CONTRIBUTING, the book and the lessons tell people to type exists, and what they link to is there."""

import importlib.util
import re
import shlex
import sys
from importlib.metadata import packages_distributions

import pytest
import typer

from support.stages import COURSE, ROOT, python
from tito import templates
from tito.main import app

BOOK = ROOT / "book"
GENERATED = [BOOK / "_build", BOOK / "lessons", BOOK / "api" / "generated"]  # made, not written
WRITTEN = [path for path in sorted(BOOK.rglob("*.md")) if not any(map(path.is_relative_to, GENERATED))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN]
LESSONS = [COURSE.source(module) for module in COURSE.modules]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
TEXTS |= {path.name: path.read_text(encoding="utf-8") for path in LESSONS}
TEXTS["the README of a workspace"] = templates.README
TITO = typer.main.get_command(app)
NAMES = {(name,) for name in TITO.commands} | {("milestone", name) for name in TITO.commands["milestone"].commands}
REFUSED = typer.BadParameter.__mro__[1]  # a UsageError, of whichever click typer uses
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
DOCUMENTS = {path.relative_to(BOOK).with_suffix("").as_posix() for path in WRITTEN}
DOCUMENTS |= {"api/index", *(f"lessons/{module.slug}" for module in COURSE.modules)}
BLANKS = {
    module.slug: set(re.findall(r'"grade_id": "([\w-]+)"', COURSE.source(module).read_text(encoding="utf-8")))
    for module in COURSE.modules
}


def prose(text):
    """The Markdown of a page: a lesson's Markdown cells, anything else as it is."""
    if not text.startswith("# ---\n# jupyter:"):
        return text
    return "\n".join(re.findall(r'^# %% \[markdown\]\n"""\n(.*?)^"""$', text, re.DOTALL | re.MULTILINE))


def parts(text):
    """The text outside of fences, and the fences: (what they are, what is in them)."""
    outside, fences, fence = [], [], None
    for line in text.splitlines():
        mark = re.match(r" *(`{3,})([^`]*)$", line)
        if fence is None and mark:
            fence = mark[1]
            fences.append((mark[2].strip(), []))
        elif fence is None:
            outside.append(line)
        elif line.strip() == fence:
            fence = None
        else:
            fences[-1][1].append(line)
    return "\n".join(outside), fences


def typed(text):
    """The commands of a text: lines of its blocks, parts joined by &&; and what stands in backquotes in a sentence."""
    outside, fences = parts(text)
    lines = [line for kind, block in fences if not kind.startswith(("{", "python")) for line in block]
    mentioned = [line for line in re.findall(r"`([^`]+)`", outside) if not is_name(line.split())]
    for line in [*lines, *mentioned]:
        line = " ".join(line.split()).removeprefix("next: ")
        if line.startswith(("tito ", "make ", "python ", "cd ")):
            yield from re.split(r" #", line)[0].split(" && ")


def is_name(words):
    """Whether this names a command of tito without calling it: `tito start` writes, opens, and so on."""
    return words[:1] == ["tito"] and tuple(words[1:]) in NAMES


def complaint(command):
    """What is wrong with a command that a page prints; None if it is there and takes these arguments."""
    program, *arguments = shlex.split(command)
    if program == "tito":
        return refused(TITO, arguments)
    if program == "make":
        named = [word for word in arguments if "=" not in word]
        return next((f"no target {word}" for word in named if word not in TARGETS and word != "..."), None)
    if program == "python":
        return not_there(arguments)
    return None


def refused(command, arguments):
    """What tito says to these arguments, without doing anything."""
    while hasattr(command, "commands") and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    if hasattr(command, "commands"):  # no command, options alone, or a group as such
        known = {option for each in command.params for option in each.opts} | {"--help"}
        known |= {"--install-completion", "--show-completion"}
        return next((f"no option {word}" for word in arguments if word not in known), None)
    try:
        context = command.make_context(command.name, list(arguments))
    except REFUSED as error:
        return str(error) or "an argument is missing"
    except typer.Exit:  # --help
        return None
    return unknown(command.name, context)


def unknown(name, context):
    """The lesson, blank, milestone or option of a milestone that is not there; capitals stand for any."""
    module, blank, milestone = (context.params.get(key) for key in ("module", "blank", "name"))
    if module and not module.isupper():
        try:
            slug = COURSE.module(module).slug
        except Exception as error:
            return str(error)
        if blank and not blank.isupper() and blank not in BLANKS[slug]:
            return f"{slug} has no blank {blank}"
    if milestone and not milestone.isupper():
        try:
            script = ROOT / "milestones" / f"{COURSE.milestone(milestone).slug}.py"
        except Exception as error:
            return str(error)
        text = script.read_text(encoding="utf-8")
        words = [word for word in context.args if not word.isdigit()]
        return next((f"{script.name} knows no {word}" for word in words if f'"{word}"' not in text), None)
    return None


def not_there(arguments):
    """The file or module that `python` is to run, if there is none."""
    if arguments[:1] == ["-m"]:
        first, *rest = arguments[1].split(".")
        places = [ROOT / first, ROOT / "tests" / first]
        if any(place.is_dir() for place in places):
            inside = [place.joinpath(*rest) for place in places]
            ends = [path.with_suffix(".py").is_file() or (path / "__main__.py").is_file() for path in inside]
            return None if any(ends) else f"no module {arguments[1]}"
        found = first in sys.stdlib_module_names or first in packages_distributions()
        return None if found else f"no module {first}"
    if arguments and not arguments[0].startswith("-") and not (ROOT / arguments[0]).is_file():
        return f"no file {arguments[0]}"
    return None


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_that_a_page_names_exists_and_takes_these_arguments(name):
    found = {command: complaint(command) for command in typed(prose(TEXTS[name]))}
    assert {command: problem for command, problem in found.items() if problem} == {}


@pytest.mark.parametrize(("page", "least"), [("README.md", 15), ("CONTRIBUTING.md", 10), ("book/learner.md", 35)])
def test_commands_are_found(page, least):
    assert len(list(typed(TEXTS[page]))) >= least


@pytest.mark.parametrize(
    "command",
    [
        "tito tets 01",
        "tito test 01 --jason",
        "tito test 21",
        "tito test 01 02",
        "tito start",
        "tito start 01 --as txt",
        "tito hint 01 tensor-nothing",
        "tito hint 02 tensor-add",
        "tito milestone rum 01",
        "tito milestone run 07",
        "tito milestone run 03 --dta mnist",
        "tito milestone run 03 --data mnits",
        "tito --vresion",
        "tito release",
        "make everything",
        "make PYTHON=python3.12 stup",
        "python book/nothing.py",
        "python -m benchmark",
        "python -m support.mistaken",
    ],
)
def test_a_command_that_is_wrong_is_found(command):
    page = f"Text.\n\n```bash\n{command}    # why\n```\n\n```python\nmake = tito\n```\n"
    assert list(typed(page)) == [command]
    assert complaint(command)


def test_commands_are_found_in_blocks_and_sentences_and_names_alone_are_not_commands():
    page = "Type `tito test\n02` or\n\n```\ncd here && tito start 01   # then\ntito status\nnext: tito start 02\n```\n"
    page += "\nThen `tito start` and `tito milestone run` do it, with `a` and `tito start 03 --lab`.\n"
    blocks, sentence = (
        ["cd here", "tito start 01", "tito status", "tito start 02"],
        ["tito test 02", "tito start 03 --lab"],
    )
    assert list(typed(page)) == blocks + sentence


@pytest.mark.parametrize(
    "command",
    [
        "tito test NN -k CHECK",
        "tito test 5 --json --limit 60",
        "tito start autograd --as py",
        "tito hint 01 tensor-add",
        "tito milestone run 03 --data mnist --seed 1",
        "tito --version",
        "tito milestone --help",
        "tito release --nbgrader DIR 01 02",
        "make PYTHON=python3.12 setup",
        "python -m support.mistakes 04_losses",
        "python -m benchmarks",
    ],
)
def test_a_command_that_is_right_passes(command):
    assert complaint(command) is None


def links(text):
    """What a page links to or shows from its own side: (how, target)."""
    outside, fences = parts(text)
    yield from (("file", target) for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", outside))
    yield from (("file", target) for target in re.findall(r"^:img-top: (\S+)", outside, re.MULTILINE))
    yield from (("page", target) for target in re.findall(r"^:link: (\S+)\n:link-type: doc$", outside, re.MULTILINE))
    for kind, block in [("", outside.splitlines()), *fences]:
        if named := re.match(r"\{(?:image|figure|literalinclude|include)\} (\S+)", kind):
            yield "file", named[1]
        if kind == "{toctree}":
            yield from (("page", line) for line in block if line and not line.startswith(":"))
        if kind in ("", "{glossary}"):
            for target in re.findall(r"\{doc\}`([^`]+)`", "\n".join(block)):
                yield "page", re.sub(r".*<(.+)>", r"\1", target)


def broken(page, text):
    """The links of a page, a path within the repository, that lead nowhere."""
    home, lost = (ROOT / page).parent, []
    for how, target in links(text):
        path = (BOOK / target[1:] if target.startswith("/") else home / target).resolve()
        made = path.is_relative_to(BOOK) and path.relative_to(BOOK).with_suffix("").as_posix() in DOCUMENTS
        made |= path.is_relative_to(GENERATED[-1])
        if not made and (how == "page" or not path.exists()):
            lost.append(target)
    return lost


@pytest.mark.parametrize("page", [path.relative_to(ROOT).as_posix() for path in PAGES])
def test_everything_that_a_page_links_to_is_there(page):
    assert broken(page, TEXTS[page]) == []


def test_a_link_that_leads_nowhere_is_found():
    page = "[a](nothing.md) [b](learner.md) [c](https://example.org) {doc}`d <lessons/99_no>` {doc}`gone` {doc}`path`\n"
    page += "\n```{image} milestones/none.png\n:alt: Nothing.\n```\n"
    page += "\n```{toctree}\n:hidden:\nlessons/01_tensor\nnowhere\n```\n"
    assert broken("book/index.md", page) == ["nothing.md", "lessons/99_no", "gone", "milestones/none.png", "nowhere"]


def test_every_page_of_the_book_is_in_its_table_of_contents():
    assert {target for how, target in links(TEXTS["book/index.md"]) if how == "page"} >= DOCUMENTS - {"index"}


def rows(page, heading):
    """The rows of the first table under a heading of a page of the book, as lists of cells."""
    text = TEXTS[f"book/{page}.md"].split(f"{heading}\n", 1)[1]
    table = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def numbers(text):
    """The lessons that "01 to 03, 05" means."""
    found = []
    for part in text.split(", "):
        first, _, last = part.partition(" to ")
        found += range(int(first), int(last or first) + 1)
    return found


def head(module):
    """The first cell of a lesson, in one line."""
    return " ".join(COURSE.source(module).read_text(encoding="utf-8").split("# %%")[1].split())


HOURS = {int(row[0][6:8]): int(row[2]) for row in rows("path", "## What stands on what")}
YEARS = {milestone.name[:4]: milestone for milestone in COURSE.milestones}


@pytest.mark.parametrize("row", rows("path", "## What stands on what"), ids=lambda row: row[0][6:8])
def test_the_path_repeats_what_a_lesson_says_of_itself(row):
    lesson, needs, hours, opened = row
    module = COURSE.module(lesson[6:8])
    assert lesson == f"{{doc}}`{module.id} {module.name} </lessons/{module.slug}>`"
    said = re.search(r"Needs (.*?)\. Exports .*?(two evenings of )?about (\w+) hours", head(module))
    words = {"two": 2, "three": 3, "four": 4, "five": 5, "eight": 8}
    assert needs == said[1]
    assert int(hours) == words[said[3]] * (2 if said[2] else 1)
    milestones = [milestone for milestone in COURSE.milestones if milestone.needs[-1] == module.number]
    assert opened == ", ".join(f"{{doc}}`{m.name[:4]} </milestones/{m.slug}>`" for m in milestones)


@pytest.mark.parametrize("row", rows("path", "## Routes"), ids=lambda row: row[0])
def test_the_routes_add_up(row):
    _, lessons, hours, milestones = row
    assert int(hours) == sum(HOURS[number] for number in numbers(lessons))
    years = [year for year, milestone in YEARS.items() if set(milestone.needs) <= set(numbers(lessons))]
    assert milestones == ("all six" if len(years) == 6 else ", ".join(years))


@pytest.mark.parametrize("plan", ["### Fourteen weeks", "### Seven weeks"])
def test_the_plans_of_instructors_add_up(plan):
    seen, opened = [], []
    for week, (number, lessons, hours, points, milestones) in enumerate(rows("instructor", plan), start=1):
        assert int(number) == week
        new = numbers(lessons)
        seen += new
        assert int(hours) == sum(HOURS[number] for number in new)
        assert int(points) == sum(COURSE.module(number).points for number in new)
        years = [year for year, m in YEARS.items() if set(m.needs) <= set(seen) and year not in opened]
        assert milestones == ", ".join(years)
        opened += years
    assert seen == [module.number for module in COURSE.modules]


def test_the_mistakes_that_instructors_are_told_of_are_in_the_lists():
    for number, name, _ in rows("instructor", "## What learners get wrong"):
        path = ROOT / "tests" / "mistakes" / f"{COURSE.module(number).slug}.toml"
        known = re.findall(r'^name = "(.*)"', path.read_text(encoding="utf-8"), re.MULTILINE)
        assert name.strip("`") in known


def test_the_diagram_of_the_path_is_drawn_from_the_package():
    spec = importlib.util.spec_from_file_location("path_of_the_book", BOOK / "path.py")
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    assert (BOOK / "path.svg").read_text(encoding="utf-8") == drawing.draw(COURSE.modules)


@pytest.mark.parametrize("milestone", COURSE.milestones, ids=lambda milestone: milestone.slug)
def test_a_milestone_has_its_place_on_the_first_page_and_a_page_with_its_picture_and_output(milestone):
    card = TEXTS["book/index.md"].split(f":link: milestones/{milestone.slug}\n")[1].split(":::")[0]
    assert numbers(re.search(r"\*lessons (.*)\*", card)[1]) == list(milestone.needs)
    page = TEXTS[f"book/milestones/{milestone.slug}.md"]
    assert f"It opens when you have completed lesson {milestone.needs[-1]:02d}." in page
    assert f"tito milestone run {milestone.id}" in list(typed(page))
    printed = (BOOK / "milestones" / f"{milestone.slug}.txt").read_text(encoding="utf-8").splitlines()
    assert f"picture: outputs/{milestone.slug}.png" in printed
    assert printed[-1].startswith("PASS: ")
    sizes = [(BOOK / "milestones" / f"{milestone.slug}{end}.png").stat().st_size for end in ("", "_small")]
    assert sizes[0] < 150_000
    assert sizes[1] < 20_000


def test_python_on_pages_of_the_book_parses():
    for text in TEXTS.values():
        for kind, block in parts(prose(text))[1]:
            if kind == "python" and "### BEGIN SOLUTION" not in text:  # hints of lessons are often pieces of a line
                compile("\n".join(block), "page", "exec")


def test_the_example_of_the_readme_trains_a_network():
    (code,) = re.findall(r"```python\n(.*?)```", TEXTS["README.md"], re.DOTALL)
    done = python(ROOT, "-W", "error", "-c", code)
    share = re.fullmatch(r"(\d+\.\d)% of 359 digits it has never seen\n", done.stdout)
    assert share, done.stdout + done.stderr
    assert float(share[1]) > 95


def test_the_readme_lists_every_lesson_and_milestone():
    listed = re.findall(r"^\| (\d\d) ", TEXTS["README.md"], re.MULTILINE)
    assert listed == [m.id for m in COURSE.modules] + [m.id for m in COURSE.milestones]
