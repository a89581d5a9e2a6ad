#!/usr/bin/env node
import { main } from "../dist/chaos/main.js";

await main(process.argv);
