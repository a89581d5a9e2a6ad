import type { Scene } from "../scene.ts";
import { migration } from "./migration.ts";
import { reclaim } from "./reclaim.ts";

export interface Story {
  readonly name: string;
  /** Every step is checked. @returns what was measured @throws {Error} saying what was seen instead */
  play(scene: Scene): Promise<string>;
}

const stories: readonly Story[] = [
  { name: "reclaim", play: reclaim },
  { name: "migration", play: migration },
];

export const storyNames: readonly string[] = [...stories.map(({ name }) => name), "all"];
export type StoryName = string;

/** One of them, or all in an order in which each goes on where the last has left the cluster. */
export function storiesOf(name: StoryName): readonly Story[] {
  return name === "all" ? stories : stories.filter((story) => story.name === name);
}
