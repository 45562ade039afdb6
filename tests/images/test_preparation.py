"""How images are prepared, as a part of the key."""

import json
from itertools import product

from featx.images.preparation import FILTERS, GEOMETRIES, Preparation

# What key.json of a cache of version 0.1 says; here as text, so that no change of code changes it.
OLD = (
    '{"alpha":"dropped","decoder":"pillow","frame":"first","grey16":"scaled by 1/257",'
    '"orientation":"exif","resize":"pillow bilinear antialiased"}'
)
OLD_SCALED = OLD.replace(
    '"decoder":"pillow"',
    '"decoder":"pillow; JPEG at the smallest of 8/8, 4/8, 2/8, 1/8 that is twice the side or more"',
)


def test_what_version_0_1_knew_has_the_policy_that_it_wrote() -> None:
    assert Preparation().policy() == json.loads(OLD)
    assert Preparation("scaled").policy() == json.loads(OLD_SCALED)


def test_each_preparation_has_a_policy_of_its_own_and_is_known_by_it() -> None:
    every = [Preparation(*values) for values in product(("full", "scaled"), GEOMETRIES, FILTERS)]
    assert len({json.dumps(one.policy()) for one in every}) == len(every)
    assert [Preparation.of_policy(one.policy()) for one in every] == every


def test_auto_has_the_policy_of_full_since_reduced_images_have_addresses_of_their_own() -> None:
    for values in product(GEOMETRIES, FILTERS):
        assert Preparation("auto", *values).policy() == Preparation("full", *values).policy()


def test_a_policy_of_a_later_version_is_not_known() -> None:
    assert Preparation.of_policy({**Preparation().policy(), "gamma": "linear"}) is None
    assert Preparation.of_policy(None) is None
