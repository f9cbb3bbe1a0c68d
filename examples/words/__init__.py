"""Renders words on photographs: lines to be read, and pictures on which words are to be found.

``python -m examples.words --help`` in the repository's root says where fonts come from.
"""

from .draw import DrawnWord, draw_word, find_fonts
from .files import write_lines, write_pages
from .layout import Page, compose_line, compose_page
from .maps import find_boxes, render_maps
from .text import ALPHABET, list_sentences, list_topic_sentences, list_words

__all__ = [
    "ALPHABET",
    "DrawnWord",
    "Page",
    "compose_line",
    "compose_page",
    "draw_word",
    "find_boxes",
    "find_fonts",
    "list_sentences",
    "list_topic_sentences",
    "list_words",
    "render_maps",
    "write_lines",
    "write_pages",
]
