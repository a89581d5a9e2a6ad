import type { NodeRecord } from "@cocoon-net/core";
import { expect, test } from "vitest";
import { Detection, type DetectionSettings, type NodeView } from "../src/detection.ts";

const settings: DetectionSettings = {
  suspectAfterMs: 5_000,
  reclaimAfterMs: 60_000,
  confirmAfterMs: 10_000,
  retryFirstMs: 1_000,
  retryMaxMs: 30_000,
  firstHeardWithinMs: 0,
  policyOf: () => "instance-gone",
};

function view(alive: boolean, status: NodeRecord["status"], epoch = 7): NodeView {
  const record: NodeRecord = {
    uid: "i-1",
    instanceID: "i-1",
    status,
    // Long ago: times in the store must not matter.
    lastSeen: "2001-01-01T00:00:00.000Z",
    subnet: "10.0.0.0/24",
    eniIDs: [],
    agentVersion: "1.0.0",
  };
  return { node: "n1", record, revision: 9, epoch, subnet: "10.0.0.0/24", alive };
}

function decide(detection: Detection, now: number, seen: NodeView, paused = false): string[] {
  return detection.decide([seen], settings, now, paused).map(({ type }) => type);
}

test("a node is suspect when its session has been seen gone for the grace, not before", () => {
  const detection = new Detection();
  expect(decide(detection, 100_000, view(false, "ready"))).toEqual([]);
  expect(decide(detection, 104_999, view(false, "ready"))).toEqual([]);
  expect(decide(detection, 105_000, view(false, "ready"))).toEqual(["suspect"]);
});

test("the grace starts anew when the node has spoken in between, or is another registration", () => {
  const detection = new Detection();
  decide(detection, 0, view(false, "ready"));
  decide(detection, 4_000, view(true, "ready"));
  expect(decide(detection, 6_000, view(false, "ready"))).toEqual([]);
  expect(decide(detection, 10_999, view(false, "ready", 8))).toEqual([]);
  expect(decide(detection, 11_000, view(false, "ready", 8))).toEqual([]);
  expect(decide(detection, 15_999, view(false, "ready", 8))).toEqual(["suspect"]);
});

test("a suspect node that speaks returns", () => {
  expect(decide(new Detection(), 0, view(true, "suspect"))).toEqual(["returned"]);
});

test("a new leader counts the silence of a node that is suspect already from its own first look", () => {
  const detection = new Detection();
  expect(decide(detection, 1_000_000, view(false, "suspect"))).toEqual([]);
  expect(decide(detection, 1_059_999, view(false, "suspect"))).toEqual([]);
  expect(decide(detection, 1_060_000, view(false, "suspect"))).toEqual(["ask"]);
});

test("two looks that agree, a pause apart, reclaim; a question under way is not asked twice", () => {
  const detection = new Detection();
  const silent = view(false, "suspect");
  decide(detection, 0, silent);
  expect(decide(detection, 60_000, silent)).toEqual(["ask"]);
  expect(decide(detection, 60_500, silent)).toEqual([]);
  detection.answered(silent, "gone", settings, 61_000);
  expect(decide(detection, 70_999, silent)).toEqual([]);
  expect(decide(detection, 71_000, silent)).toEqual(["ask"]);
  detection.answered(silent, "stopped", settings, 71_100);
  expect(decide(detection, 71_100, silent)).toEqual(["reclaim"]);
  detection.lookAgain("n1", settings, 71_100);
  expect(decide(detection, 71_101, silent)).toEqual([]);
});

test("an answer about a former registration counts for nothing", () => {
  const detection = new Detection();
  decide(detection, 0, view(false, "suspect"));
  decide(detection, 60_000, view(false, "suspect"));
  decide(detection, 61_000, view(false, "suspect", 8));
  detection.answered(view(false, "suspect"), "gone", settings, 61_000);
  expect(decide(detection, 121_000, view(false, "suspect", 8))).toEqual(["ask"]);
  detection.answered(view(false, "suspect", 8), "gone", settings, 121_000);
  expect(decide(detection, 121_001, view(false, "suspect", 8))).toEqual([]);
});

test("a pause makes earlier looks void", () => {
  const detection = new Detection();
  const silent = view(false, "suspect");
  decide(detection, 0, silent);
  decide(detection, 60_000, silent);
  detection.answered(silent, "gone", settings, 60_000);
  decide(detection, 70_000, silent);
  detection.answered(silent, "gone", settings, 70_000);
  expect(decide(detection, 70_001, silent, true)).toEqual([]);
  expect(decide(detection, 80_001, silent)).toEqual(["ask"]);
});

test.each(["fencing", "quarantined", "left"] as const)("a node that is %s is not judged", (status) => {
  const detection = new Detection();
  decide(detection, 0, view(false, status));
  expect(decide(detection, 1_000_000, view(false, status))).toEqual([]);
});

test("a node whose agent never ran has longer; one whose agent did has not, also under a new leader", () => {
  const patient = { ...settings, firstHeardWithinMs: 600_000 };
  const look = (detection: Detection, now: number, node: NodeView) =>
    detection.decide([node], patient, now, false).map(({ type }) => type);
  const setUp = view(false, "ready");
  const running = { ...setUp, record: { ...setUp.record, runningSince: "2026-01-01T00:00:00Z" } };
  const detections = [new Detection(), new Detection()] as const;
  expect([look(detections[0], 0, setUp), look(detections[1], 0, running)]).toEqual([[], []]);
  expect([look(detections[0], 60_000, setUp), look(detections[1], 60_000, running)]).toEqual([
    [],
    ["suspect"],
  ]);
  expect(look(detections[0], 600_000, setUp)).toEqual(["suspect"]);
});
