// Not by the name of the package: its root needs the test runner.
import { DRIVERS, REQUIREMENTS, type Requirement } from '../../packages/driver-testkit/src/requirements.ts'
import { formatted, type GeneratedFile } from './generated-file.ts'

/** What each driver does, and why not where it does not: `docs/parity.md`. */
export const parity = (): Promise<GeneratedFile> => formatted('docs/parity.md', parityPage(REQUIREMENTS), 'markdown')

export const parityPage = (requirements: Readonly<Record<string, Requirement>>): string => {
  const reasons = [...new Set(Object.values(requirements).flatMap(({ exempt }) => Object.values(exempt ?? {})))]
  const areas = Map.groupBy(Object.entries(requirements), ([id]) => id.slice(0, id.indexOf('.')))
  const cell = (requirement: Requirement, driver: (typeof DRIVERS)[number]): string => {
    const reason = requirement.exempt?.[driver]
    return reason === undefined ? 'yes' : `no (${reasons.indexOf(reason) + 1})`
  }
  return [
    '# Parity of the drivers',
    'Generated from `packages/driver-testkit/src/requirements.ts` by `npm run generate`; do not edit.',
    'Every line is a test that runs on every driver whose column says yes. `fake` is for tests alone, `qemu` was seen on emulated machines.',
    'The driver `firecracker` has no column: it has booted nothing yet ([limitations.md](limitations.md)).',
    ...[...areas].flatMap(([area, members]) => [
      `## ${area.charAt(0).toUpperCase()}${area.slice(1)}`,
      [
        `| requirement | ${DRIVERS.join(' | ')} |`,
        `|---|${DRIVERS.map(() => '---|').join('')}`,
        ...members.map(
          ([, one]) => `| ${escaped(one.text)} | ${DRIVERS.map((driver) => cell(one, driver)).join(' | ')} |`,
        ),
      ].join('\n'),
    ]),
    '## Why not',
    reasons.map((reason, index) => `${index + 1}. ${escaped(reason)}`).join('\n'),
    '',
  ].join('\n\n')
}

const escaped = (text: string): string => text.replaceAll('|', String.raw`\|`)
