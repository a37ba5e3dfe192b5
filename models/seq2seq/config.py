"""Floor 7: the shape of a sequence-to-sequence model."""

from __future__ import annotations

from dataclasses import dataclass

from minigrad.errors import UserError, describe
from minigrad.models.lm.cells import CELLS, EXPECTED, is_cell
from minigrad.models.settings import Settings, choice, flag, named, real, whole

ATTENTIONS = ("none", "dot", "general", "additive", "location")
DIRECTIONS = ("both", "forward", "backward")


@dataclass(frozen=True)
class Seq2SeqConfig(Settings):
    """The shape of an encoder and a decoder, and what makes their training harder to overfit."""

    cell: str = named(
        "lstm", is_cell, EXPECTED, f"{', '.join(CELLS)}, or FILE.py:NAME, an own cell (p, x_t, state) -> (state, y_t)"
    )
    layers: int = whole(1, 1, 1000, "recurrent layers of the encoder, and of the decoder")
    hidden: int = whole(256, 2, 1_000_000, "units of each layer (H); of each direction half of them")
    embedding: int = whole(128, 1, 1_000_000, "numbers that stand for a symbol (D)")
    direction: str = choice("both", DIRECTIONS, "how the source is read; backward: its last symbol first")
    attention: str = choice("general", ATTENTIONS, "how the decoder looks at the source; none: only at its last state")
    input_feeding: bool = flag("each step of the decoder also reads what the last one attended to", True)
    coverage: float = real(
        0.0, 0, 1e6, "weight of attending twice to the same in training; above 0, scores see what was attended to",
        closed=True,
    )  # fmt: skip
    positions: int = whole(100, 1, 1_000_000, "source positions that location attention knows, from the first")
    tied: bool = flag("one matrix for the decoder's embedding and the output")
    dropout: float = real(
        0.2, 0, 1, "share of embeddings, layers' outputs and readouts dropped in training", closed=True
    )
    label_smoothing: float = real(
        0.0, 0, 1, "share of each target's weight that goes to all symbols alike", closed=True
    )
    scheduled_sampling: float = real(
        0.0, 0, 1, "share of symbols that the decoder reads as itself draws them in training, by a coin for each",
        closed=True,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.direction == "both" and self.hidden % 2:
            raise UserError(describe("hidden", str(self.hidden), "an even number", "or --direction forward"))
        if self.direction == "backward" and self.attention != "none":
            raise UserError(describe("direction", "backward with attention", "both or forward", "or --attention none"))
        if self.coverage and self.attention == "none":
            raise UserError(describe("coverage", f"{self.coverage:g} without attention", "0", "or an --attention"))
        if self.tied and self.attention == "none" and self.embedding != self.hidden:
            got = f"embedding {self.embedding} and hidden {self.hidden} without attention"
            raise UserError(describe("tied", got, "equal sizes", "set --embedding to the size of --hidden"))

    @property
    def readout(self) -> int:
        """Numbers that the output layer takes (R)."""
        return self.embedding if self.tied else self.hidden

    @property
    def fed(self) -> int:
        """Numbers that a decoder step reads of the last one's readout."""
        return self.readout if self.attention != "none" and self.input_feeding else 0
