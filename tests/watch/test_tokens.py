from solar.control.tokens import LIVES, MOST, Tokens


def test_a_token_opens_one_socket() -> None:
    tokens = Tokens()
    token = tokens.make(now=0.0)
    assert not tokens.spend("another", now=1.0)
    assert tokens.spend(token, now=1.0)
    assert not tokens.spend(token, now=1.0)


def test_a_token_is_worth_nothing_after_its_minute() -> None:
    tokens = Tokens()
    first, second = tokens.make(now=0.0), tokens.make(now=0.0)
    assert tokens.spend(first, now=LIVES - 0.1)
    assert not tokens.spend(second, now=LIVES)


def test_the_oldest_token_goes_where_too_many_wait() -> None:
    tokens = Tokens()
    made = [tokens.make(now=0.0) for _ in range(MOST + 1)]
    assert len(set(made)) == MOST + 1
    assert not tokens.spend(made[0], now=1.0)
    assert all(tokens.spend(token, now=1.0) for token in made[1:])


def test_what_is_no_text_of_ours_is_no_token() -> None:
    tokens = Tokens()
    tokens.make(now=0.0)
    assert not any(tokens.spend(given, now=1.0) for given in ("", "\u00e9", "\ud800"))


def test_tokens_are_not_shown() -> None:
    tokens = Tokens()
    assert tokens.make(now=0.0) not in repr(tokens)
