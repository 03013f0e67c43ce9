"""Turns of a conversation and phrases that many conversations share."""

from __future__ import annotations

Turn = tuple[int, str]
"""Who speaks (0 opens the conversation, 1 answers) and what is said."""

YES = "[Yes|Of course|Certainly|Sure|Gladly|Right away|All right]"
THANKS = "[Thank you|Thanks|Thanks a lot|Many thanks|That is kind of you|Great, thank you]"
BYE = "[Goodbye|Bye|See you|Have a nice day|Take care|Until then]"
WELCOME = "[You're welcome|Not at all|Don't mention it|No problem|My pleasure]"
