import { expect, test } from "vitest";
import { TestCluster, type TestNode } from "./test-cluster.ts";

// Guard: warmRoom counts what is kept already; none is kept where the cloud does not say.
test.each([
  { keepWarm: 0, answers: true, kept: 0 },
  { keepWarm: 3, answers: true, kept: 3 },
  { keepWarm: 3, answers: false, kept: 0 },
])(
  "of two reclaimed nodes $kept interfaces are kept with a limit of $keepWarm",
  async ({ keepWarm, answers, kept }) => {
    await using cluster = await TestCluster.open({ damaged: true });
    const nodes: TestNode[] = [];
    for (const name of ["n1", "n2", "n3"]) nodes.push(await cluster.join(name));
    cluster.start("a", { keepWarm });
    cluster.vpc.before = (call) => {
      if (!answers && call === "a list") throw new Error("no answer");
    };
    for (const node of nodes.slice(0, 2)) {
      await cluster.die(node);
      await cluster.until("it is free", async () =>
        (await cluster.history(node.name)).includes("subnet-freed"),
      );
    }
    const left = [...cluster.vpc.nics].filter(([, { instanceID }]) => instanceID === undefined);
    expect(left).toHaveLength(kept);
    expect([...cluster.vpc.warm]).toEqual(left.map(([id]) => id));
  },
);
