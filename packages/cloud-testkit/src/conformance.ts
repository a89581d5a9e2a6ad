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

/** Registers the suite with vitest. Every check has an account of its own. */
export function cloudConformance(subject: CloudUnderTest): void {
  const check = checkWith(() => subject.open());
  describe(`${subject.name}: conformance`, () => {
    describe("instances", () => instanceChecks(check));
    describe("provision", () => provisionChecks(check));
    describe("growing", () => growthChecks(check));
    describe("shrink", () => shrinkChecks(check));
    describe("move", () => moveChecks(check));
    describe("resources", () => resourceChecks(check));
    describe("fence", () => fenceChecks(check));
    describe("release", () => releaseChecks(check));
    describe("release with warm NICs", () => warmChecks(check));
    const { openLimited } = subject;
    if (openLimited === undefined) return;
    describe("rate limits", () =>
      rateLimitChecks((budget) => checkWith(() => openLimited.call(subject, budget))));
  });
}
