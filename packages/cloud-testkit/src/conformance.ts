import { describe } from "vitest";
import { checkWith } from "./conformance/check.ts";
import { fenceChecks } from "./conformance/fence.ts";
import { instanceChecks } from "./conformance/instances.ts";
import { moveChecks } from "./conformance/move.ts";
import { growthChecks, provisionChecks, shrinkChecks } from "./conformance/provision.ts";
import { rateLimitChecks } from "./conformance/rate-limits.ts";
import { releaseChecks, warmChecks } from "./conformance/release.ts";
import { resourceChecks } from "./conformance/resources.ts";
import type { CloudUnderTest } from "./conformance/world.ts";

export type { CloudUnderTest, CloudWorld, LimitedWorld } from "./conformance/world.ts";

/** Registers the suite with vitest. Every check has an account of its own; those that do not measure rates run at once. */
export function cloudConformance(subject: CloudUnderTest): void {
  const check = checkWith(() => subject.open());
  describe(`${subject.name}: conformance`, () => {
    describe.concurrent("instances", () => instanceChecks(check));
    describe.concurrent("provision", () => provisionChecks(check));
    describe.concurrent("growing", () => growthChecks(check));
    describe.concurrent("shrink", () => shrinkChecks(check));
    describe.concurrent("move", () => moveChecks(check));
    describe.concurrent("resources", () => resourceChecks(check));
    describe.concurrent("fence", () => fenceChecks(check));
    describe.concurrent("release", () => releaseChecks(check));
    describe.concurrent("release with warm NICs", () => warmChecks(check));
    const { openLimited } = subject;
    if (openLimited === undefined) return;
    describe("rate limits", () =>
      rateLimitChecks((budget) => checkWith(() => openLimited.call(subject, budget))));
  });
}
