"""The error tree: complete, picklable, helpful."""

from __future__ import annotations

import inspect
import pickle

import pytest

from supervision import errors

SAMPLES = {
    "SupervisionError": ("message",),
    "SpecError": ("atom", 1, "Advice."),
    "ActorStoppedError": ("/root/1", "boom"),
    "CallTimeoutError": ("/root/1", 5.0, "request"),
    "CallingSelfError": ("/root/1", "call"),
    "MailboxFullError": ("/root/1", 10),
    "StashFullError": ("/root/1", 10),
    "ActorNotFoundError": ("name",),
    "NameTakenError": ("name", object()),
    "AlreadyStartedError": (1, object()),
    "ChildStartError": (1, "boom"),
    "RestartLimitError": ("/root", 1, 3, 5.0),
    "ZombieLimitError": ("/root", 1, 3, 2),
    "ProcessDiedError": ("/root/1", -9),
    "NotPicklableError": ("/root/1", "a request to", object()),
    "RemoteError": ("builtins.ValueError", "text", "trace"),
}


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_are_picklable(name):
    """Each error survives pickling with its message and facts; a ref stays behind."""
    kind = getattr(errors, name)
    error = kind(*SAMPLES.get(name, (1,)))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert copy.args == error.args
    facts = {key: value for key, value in vars(error).items() if key != "ref"}
    assert vars(copy) == facts
    assert getattr(copy, "ref", None) is None


def test_tree_in_the_docstring():
    """The tree that the module draws holds exactly its errors, each with the builtin it says."""
    drawn = {}
    for line in inspect.getdoc(errors).splitlines():
        words = line.strip(" ├└│").split()
        if words and words[0].endswith("Error"):
            builtin = words[1].strip("()") if len(words) > 1 and words[1].startswith("(") else None
            drawn[words[0]] = builtin
    assert sorted(drawn) == errors.__all__
    for name, builtin in drawn.items():
        kind = getattr(errors, name)
        assert issubclass(kind, errors.SupervisionError)
        if builtin:
            assert builtin in {base.__name__ for base in kind.__mro__}
