import { BaseSequencer, type TestSpecification } from "vitest/node";

const stories =
  /\/apps\/lab\/test\/story\/|\/apps\/bench\/|\/(cluster|cloud)-node[^/]*$|\/conformance\.test\.ts$/;

/**
 * Begins with what takes longest. Where nothing has run yet, vitest goes by the size of the files, and what plays a whole
 * story in a few lines would run when all else is done.
 */
export class StoriesFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isStory = ({ moduleId }: TestSpecification): number => (stories.test(moduleId) ? 1 : 0);
    return (await super.sort(files)).toSorted((one, other) => isStory(other) - isStory(one));
  }
}
