import type { Scene } from "../scene.ts";
import { breaker } from "./breaker.ts";
import { migration } from "./migration.ts";
import { reclaim } from "./reclaim.ts";
import { repair } from "./repair.ts";
import { comeBack } from "./return.ts";

export interface Story {
  readonly name: string;
  /** Can be played without network namespaces. */
  readonly embedded: boolean;
  /** Every step is checked. @returns what was measured @throws {Error} saying what was seen instead */
  play(scene: Scene): Promise<string>;
}

const stories: readonly Story[] = [
  { name: "reclaim", embedded: true, play: reclaim },
  { name: "migration", embedded: false, play: migration },
  { name: "breaker", embedded: false, play: breaker },
  { name: "return", embedded: false, play: comeBack },
  { name: "repair", embedded: true, play: repair },
];

export const storyNames: readonly string[] = [...stories.map(({ name }) => name), "all"];

/** One of them, or all that can be played here, each going on where the last has left the cluster. */
export function storiesOf(name: string, isEmbedded: boolean): readonly Story[] {
  const found = stories.filter((story) => name === "all" || story.name === name);
  const playable = found.filter(({ embedded }) => embedded || !isEmbedded);
  if (playable.length === 0) throw new Error(`the story ${name} needs network namespaces`);
  return playable;
}
