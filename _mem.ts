import { TestAppliance } from "./tests/support/appliance.ts";
import { fio } from "./bench/_fio.ts";
await using a = await TestAppliance.start();
await a.createVolume("disk", 1024 ** 3);
const uri = a.uri("disk");
await fio(uri, ["write", "1M", "4", "1G"]);
await fio(uri, ["randwrite", "4k", "64", "100T", "--number_ios=400000", "--norandommap", "--randseed=1"]);
const s = await Deno.readTextFile(`/proc/${a.pid}/status`);
console.log(/VmHWM:\s+(\d+)/.exec(s)![1], /VmRSS:\s+(\d+)/.exec(s)![1]);
