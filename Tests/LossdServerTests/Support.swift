import Glibc
import LossdEngine
import LossdLoop

@testable import LossdServer

/// The same numbers again: $LOSSD_SEED, which a failing test prints, else others each time.
let seed =
  getenv("LOSSD_SEED").flatMap { UInt64(String(cString: $0)) } ?? UInt64.random(in: 0...(1 << 40))

/// SplitMix64.
struct Numbers: RandomNumberGenerator {
  private var state: UInt64
  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
    return value ^ value >> 31
  }
}

/// A daemon without functions, sockets and loops.
func makeDaemon(_ limits: ServerLimits = ServerLimits()) -> DaemonState {
  DaemonState(
    registry: Registry(), scheduler: WorkerThreads(workers: 1), software: "lossd/test", kernels: "",
    limits: limits, pooledBytesMax: 1 << 20, plugins: nil)
}

/// A budget that nobody is told about.
func budget(_ bytesMax: Int, within parent: MemoryBudget? = nil) -> MemoryBudget {
  MemoryBudget(bytesMax: bytesMax, setting: "limits.test", owner: "a test", parent: parent) { _ in }
}

/// A loop that runs in the test's thread, and what hangs on it.
final class TestLoop {
  let loop: Loop
  let daemon: DaemonState
  let context: CallLoop

  init(_ limits: ServerLimits = ServerLimits()) throws {
    loop = try Loop()
    daemon = makeDaemon(limits)
    context = CallLoop(loop, daemon, limits)
    loop.keepAlive()
  }

  /// Runs until `stop` is called from within, at most for some seconds.
  func run(seconds: UInt64 = 10) -> Bool {
    var isLate = false
    let timer = LoopTimer(loop) { [self] in
      isLate = true
      loop.stop()
    }
    timer.start(afterMilliseconds: seconds * 1000)
    loop.run()
    timer.close()
    return !isLate
  }

  func close() { context.deadlines.close() }
}
