import LossdEngine
import LossdLoop
import Synchronization

/// Says regularly that the daemon is alive, but only while it is: every loop has turned, and the
/// workers have taken a chunk or had nothing to do, since it was said last. Confined to the first
/// loop's thread.
final class Liveness {
  /// Looks in one period: soon enough to say it again in time after a late turn.
  private static let looksPerPeriod: UInt64 = 5

  private let loops: [ServerLoop]
  private let scheduler: WorkerThreads
  private let period: UInt64
  private let onAlive: () -> Void
  private var timer: LoopTimer?
  private var lastSaid: UInt64
  private var chunksSeen: UInt64 = 0
  /// The loops' latest turns that were asked for; each answers from its own thread.
  private let turns: [Turn]

  private final class Turn: Sendable {
    let answered = Atomic<UInt64>(0)
  }
  private var round: UInt64 = 0

  /// Calls `onAlive` every `period` nanoseconds, as long as it is true.
  init(
    _ loops: [ServerLoop], _ scheduler: WorkerThreads, period: UInt64,
    onAlive: @escaping () -> Void
  ) {
    self.loops = loops
    self.scheduler = scheduler
    self.period = period
    self.onAlive = onAlive
    turns = loops.map { _ in Turn() }
    lastSaid = Clock.now
    timer = LoopTimer(loops[0].loop) { [unowned self] in look() }
    let pause = max(period / Liveness.looksPerPeriod / 1_000_000, 1)
    timer?.start(afterMilliseconds: pause, repeating: pause)
    ask()
  }

  func close() {
    timer?.close()
    timer = nil
  }

  private func ask() {
    round += 1
    let round = round
    for (loop, turn) in zip(loops, turns) {
      loop.loop.execute { turn.answered.store(round, ordering: .relaxed) }
    }
  }

  private func look() {
    // A look early by its share of the period is better than one late.
    guard Clock.now + period / Liveness.looksPerPeriod / 2 >= lastSaid + period else { return }
    guard turns.allSatisfy({ $0.answered.load(ordering: .relaxed) == round }) else { return }
    let progress = scheduler.progress
    guard progress.isIdle || progress.chunksTaken != chunksSeen else { return }
    chunksSeen = progress.chunksTaken
    lastSaid = Clock.now
    onAlive()
    ask()
  }
}
