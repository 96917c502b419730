from runtimes import fake
from runtimes.suite import RuntimeSuite


class TestFake(RuntimeSuite):
    backend = fake.Backend
