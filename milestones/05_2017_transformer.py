"""2017: attention is enough.

Until then, networks that read text were recurrent: they took in one word after the other and kept what they had read in
one vector. So the hundredth word had to wait for ninety-nine others, however many processors stood idle, and what the
first one said had to survive ninety-nine rewrites; gradients faded on the same way back. Bahdanau and others (2014)
let a recurrent translator look back at all words of the sentence, and it read long ones far better. Ashish Vaswani and
seven others ("Attention is all you need", NeurIPS 2017) kept the looking back and dropped the recurrence: every place
asks all others at once, one step between any two words, all places in parallel. With the mask that hides the future it
writes text token by token (Radford and others 2018: GPT).

First the proof: to reverse a sequence, every place needs what stands at another one. A block that attends learns it
from examples; the same block whose places may look only at themselves cannot. Then a GPT learns to answer questions.

Different from 2017 here: norms before the layers, learned places, GELU, AdamW, and no separate encoder and decoder.

Data      random sequences of 16 letters; and 962 short questions with answers (milestones/data), one in ten held out:
          known facts, asked for in a way not seen in training. --data shakespeare: a million characters of plays, the
          last tenth held out, from TINYTORCH_DATA or the cache folder, downloaded if missing
Goal      95 % of 1,000 unseen sequences reversed without a mistake, and a held-out loss of at most 0.25 nats per token
          of the answers (Shakespeare: 1.75 nats per character)
Picture   outputs/05_2017_transformer.png: who looked at whom to reverse, and how the losses fell
"""

import argparse
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import tinytorch
from tinytorch import nn, optim
from tinytorch.core.training import CosineSchedule, clip_grad_norm
from tinytorch.data.datasets import tiny_shakespeare
from tinytorch.nn import functional as F
from tinytorch.text.tokenization import BPETokenizer, CharTokenizer
from tito import pictures

LETTERS, LENGTH, GOAL = 26, 16, 0.95
QUESTIONS = Path(__file__).resolve().parent / "data" / "questions.txt"
NOTHING = -1  # a target that does not count


class Reverser(nn.Module):
    """One transformer block: tokens (N, T) -> logits (N, T, LETTERS). `mask` says who may look at whom."""

    def __init__(self, mask=None):
        self.embedding = nn.EmbeddingLayer(LETTERS, 64, LENGTH)
        self.block = nn.TransformerBlock(64, num_heads=2)
        self.head = nn.Linear(64, LETTERS)
        self.mask = mask

    def forward(self, tokens):
        return self.head(self.block(self.embedding(tokens), self.mask))

    def maps(self, tokens):
        """Who looks at whom: (heads, T, T), mean over the sequences."""
        with tinytorch.no_grad():
            heads = self.block.attention.heads(self.block.norm1(self.embedding(tokens)))
            return F.scaled_dot_product_attention(*heads, self.mask)[1].numpy().mean(axis=0)


def train(model, draw, held_out, steps, lr):
    """Steps of AdamW on batches (x, y) that `draw` returns: (step, loss since the last report, held-out loss) rows."""
    optimizer = optim.AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = CosineSchedule(lr, lr / 30, total_epochs=steps, warmup=min(100, steps / 10))  # counted in steps here
    some = slice(None, None, max(1, len(held_out[0]) // 128))  # enough to see how it goes
    history, losses, start = [], [], time.perf_counter()
    for step in range(steps):
        optimizer.lr = schedule(step + 1)
        inputs, targets = draw()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets, ignore_index=NOTHING)
        loss.backward()
        clip_grad_norm(model.named_parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step == 0 or (step + 1) % max(1, steps // 10) == 0:
            history.append((step + 1, float(np.mean(losses)), judge(model, *(part[some] for part in held_out))[0]))
            line = "  step {:4d}   loss {:.3f}   held out {:.3f}   {:.0f} s"
            print(line.format(*history[-1], time.perf_counter() - start), flush=True)
            losses = []
    return history


def judge(model, x, y):
    """Mean loss of the targets that count, and the share of rows without any mistake."""
    model.eval()
    total = right = 0
    with tinytorch.no_grad():
        for start in range(0, len(x), 32):
            targets = y[start : start + 32]
            logits, counting = model(x[start : start + 32]), targets != NOTHING
            total += F.cross_entropy(logits, targets, ignore_index=NOTHING).item() * counting.sum()
            right += ((logits.numpy().argmax(axis=-1) == targets) | ~counting).all(axis=-1).sum()
    model.train()
    return float(total / (y != NOTHING).sum()), float(right / len(y))


def reverse(rng, steps=150):
    """Learn to reverse, blind and with attention. The second model, both histories, the share it gets right."""

    def draw(n=64):
        x = rng.integers(LETTERS, size=(n, LENGTH))
        return x, x[:, ::-1]

    unseen, histories = draw(1000), []
    for looks_at, mask in (("itself only", np.eye(LENGTH) == 1), ("all places", None)):
        print(f"Reversing {LENGTH} letters, every place looks at {looks_at}:")
        model = Reverser(mask)
        histories.append(train(model, draw, unseen, steps, lr=4e-3))
        share = judge(model, *unseen)[1]
        print(f"  {share:.1%} of 1,000 unseen sequences reversed without a mistake")
    return model, histories, share


def questions(rng):
    """Question, tab, answer, one pair per row. Held out is one way to ask for a fact that two others still teach."""
    pairs = [tuple(line.split("\t")) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    ways, held_out = Counter(answer for _, answer in pairs), []
    for pair in pairs:
        if len(held_out) < len(pairs) // 10 and ways[pair[1]] > 2:
            held_out.append(pair)
            ways[pair[1]] = 0
    pairs = held_out + [pair for pair in pairs if pair not in set(held_out)]
    n = len(held_out)
    tokenizer = BPETokenizer(1024)
    tokenizer.train([f"{question}\t{answer}\n" for question, answer in pairs[n:]])
    rows = [(tokenizer.encode(question + "\t"), tokenizer.encode(answer + "\n")) for question, answer in pairs]
    T = max(len(question) + len(answer) for question, answer in rows) - 1
    x, y = np.zeros((len(rows), T), int), np.full((len(rows), T), NOTHING)
    for i, (question, answer) in enumerate(rows):
        x[i, : len(question + answer) - 1] = (question + answer)[:-1]
        y[i, len(question) - 1 : len(question + answer) - 1] = answer  # a question need not be foreseen

    def draw():
        chosen = rng.integers(n, len(x), 32)
        return x[chosen], y[chosen]

    return SimpleNamespace(
        name="the questions",
        tokenizer=tokenizer,
        draw=draw,
        held_out=(x[:n], y[:n]),
        model=nn.GPT(tokenizer.vocab_size, embed_dim=128, num_layers=2, num_heads=4, max_seq_len=T),
        training={"steps": 500, "lr": 4e-3},
        goal=0.25,
        prompts=[(question + "\t", answer + "\n") for question, answer in held_out],
        sampling={"max_new_tokens": T, "temperature": 0, "stop": tokenizer.encode("\n")},
    )


def shakespeare(rng, T=128):
    """Windows of T characters from anywhere in the first nine tenths; the last tenth is held out, cut into windows."""
    text = tiny_shakespeare()
    cut = len(text) * 9 // 10
    tokenizer = CharTokenizer()
    tokenizer.build_vocab(text[:cut])
    seen, unseen = (np.array(tokenizer.encode(part)) for part in (text[:cut], text[cut:]))
    n = (len(unseen) - 1) // T * T

    def draw():
        windows = seen[rng.integers(len(seen) - T, size=(8, 1)) + np.arange(T + 1)]
        return windows[:, :-1], windows[:, 1:]

    return SimpleNamespace(
        name="Shakespeare",
        tokenizer=tokenizer,
        draw=draw,
        held_out=(unseen[:n].reshape(-1, T), unseen[1 : n + 1].reshape(-1, T)),
        model=nn.GPT(tokenizer.vocab_size, embed_dim=128, num_layers=4, num_heads=4, max_seq_len=T),
        training={"steps": 3000, "lr": 3e-3},
        goal=1.75,
        prompts=[("ROMEO:", None)],
        sampling={"max_new_tokens": 400, "temperature": 0.8},
    )


def write(task, prompt):
    """Go on from a prompt, and print each token as it is found. All that was written."""
    print("  " + prompt.replace("\t", "  "), end="", flush=True)
    written = ""
    for token in task.model.stream(task.tokenizer.encode(prompt), **task.sampling):
        piece = task.tokenizer.decode([token])
        print(piece, end="", flush=True)
        written += piece
    print(end="" if written.endswith("\n") else "\n")
    return written


def picture(path, model, reversals, history, title):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    maps = model.maps(np.random.default_rng(1).integers(LETTERS, size=(200, LENGTH)))
    figure = plt.figure(figsize=(13, 7.5), layout="constrained")
    above, below = figure.subfigures(2, 1)
    above.suptitle("To reverse, place t looks at place 15 - t: attention, mean of 200 sequences")
    pictures.attention(np.stack([*maps, maps.mean(axis=0)]), titles=["head 1", "head 2", "both"], figure=above)
    left, right = below.subplots(1, 2)
    for rows, name, colour in zip(reversals, ["sees only itself", "attends to all"], ["#b2182b", "#1f78b4"]):
        steps, _, unseen = np.array(rows).T
        left.plot(steps, unseen, "o-", ms=3, c=colour, label=name)
    left.axhline(np.log(LETTERS), c="#7f7f7f", ls=":", label="guessing")
    left.set_title("Reversing unseen sequences")
    steps, trained, held_out = np.array(history).T
    right.plot(steps, trained, "o--", ms=3, c="#7f7f7f", label="training text")
    right.plot(steps, held_out, "o-", ms=3, c="#1f78b4", label="held-out text")
    right.set_title(title)
    for axis in (left, right):
        axis.set(xlabel="step", ylabel="cross-entropy (nats)", ylim=0)
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    outputs = Path(__file__).resolve().parents[1] / "outputs"
    texts = {"questions": questions, "shakespeare": shakespeare}
    parser.add_argument("--data", choices=texts, default="questions", help="which text (default: questions)")
    parser.add_argument("--out", type=Path, default=outputs, help="folder for the picture (default: outputs/)")
    parser.add_argument("--seed", type=int, default=0, help="another start, another order")
    options = parser.parse_args()

    print("2017: the transformer. Every place asks all the others, at once.")
    tinytorch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    start, processor = time.perf_counter(), time.process_time()
    task = texts[options.data](rng)  # first, so that a missing file is missed at once
    reverser, reversals, share = reverse(rng)

    print(f"A GPT of {task.model.num_parameters():,} parameters learns {task.name}, {task.tokenizer}:")
    history = train(task.model, task.draw, task.held_out, **task.training)
    loss, exact = judge(task.model, *task.held_out)
    for prompt, answer in task.prompts[:8]:
        if write(task, prompt) != answer and answer:
            print(f"    expected: {answer}", end="")
    if options.data == "questions":
        print(f"  {exact:.1%} of {len(task.prompts)} held-out questions answered to the letter")

    options.out.mkdir(parents=True, exist_ok=True)
    name = "05_2017_transformer.png" if options.data == "questions" else f"05_2017_transformer_{options.data}.png"
    picture(options.out / name, reverser, reversals, history, f"A GPT learns {task.name}")
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    print(f"{seconds:.0f} s, in which the processor worked {processor:.0f} s, all cores counted")
    passed = share >= GOAL and loss <= task.goal
    print("PASS" if passed else "FAIL", end=f": {share:.1%} of 1,000 unseen sequences reversed (goal: {GOAL:.0%}), ")
    print(f"held-out loss {loss:.3f} (goal: at most {task.goal})")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
