/** What a reader of docs/first-run.md types, and why. */
export interface Step {
  readonly says: string
  readonly lines: readonly string[]
}

/** A program with a defect, its test, and what git is not to see. */
export const PROJECT: Readonly<Record<string, string>> = {
  'sums.py': 'def add(a, b):\n    return a - b\n',
  'test_sums.py':
    'import unittest\nfrom sums import add\n\n\nclass Sums(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(add(1, 2), 3)\n',
  '.gitignore': '__pycache__/\n',
}

export const QUICKSTART: Step = {
  says: 'In a checkout, one command tells the whole story on the files of a folder; here `~/sums`, a git repository with a small Python program. The very first run takes longer: it installs what the host lacks, and builds the environment from your Debian mirror.',
  lines: ['npm run quickstart -- ~/sums'],
}

export const BY_HAND: readonly Step[] = [
  {
    says: 'The same by hand, in `~/sums` (`npx pyro` in a checkout). A workspace with the files that git knows, and the new ones it does not ignore:',
    lines: [
      'pyro workspace create debian:12 --name fix --seed-git .',
      'pyro workspace exec fix -- python3 -m unittest -q',
    ],
  },
  {
    says: 'The test fails, so there is something to fix. Before anything risky, keep the whole disk:',
    lines: ['pyro workspace snapshot create fix start'],
  },
  {
    says: 'An agent that goes astray breaks more than the repository:',
    lines: [
      "pyro workspace exec fix -- 'rm -f /usr/bin/python3* sums.py; echo junk > /tmp/junk'",
      'pyro workspace exec fix -- python3 -m unittest -q',
      'pyro workspace diff fix',
    ],
  },
  {
    says: 'Do not repair. Reset: a new machine on the snapshot, which takes as long as to start one, whatever was broken:',
    lines: ['pyro workspace reset fix --snapshot start', 'pyro workspace diff fix --from start --root / --exit-code'],
  },
  {
    says: 'Now the right thing, once:',
    lines: [
      "pyro workspace exec fix -- sed -i 's/a - b/a + b/' sums.py",
      'pyro workspace exec fix -- python3 -m unittest -q',
      'pyro workspace diff fix',
    ],
  },
  {
    says: 'Hand the change back to the repository on the host, and let the machine go:',
    lines: [
      'pyro workspace diff fix --quiet | git apply --3way',
      'git diff --cached --stat',
      'pyro workspace status fix',
      'pyro workspace delete fix',
    ],
  },
]
