import pc from "picocolors";

/** Colors where the terminal shows them: never into a pipe or a file, never with NO_COLOR. */
export const paint: ReturnType<typeof pc.createColors> = pc.createColors(
  process.stdout.isTTY && process.stdout.hasColors(),
);
