import LossdEngine
import LossdLoop

/// Tells once when the daemon has had no connection for a while. Confined to the first loop's
/// thread.
final class IdleWatch {
  /// Looks in the time: the daemon is told of at most a tenth of it late.
  private static let looksPerTime: UInt64 = 10

  private let daemon: DaemonState
  private let time: UInt64
  private let onIdle: () -> Void
  private var timer: LoopTimer?
  private var idleSince = Clock.now
  private var connectionsSeen: UInt64 = 0

  /// Calls `onIdle` after `time` nanoseconds in which no connection was open.
  init(_ loop: Loop, _ daemon: DaemonState, time: UInt64, onIdle: @escaping () -> Void) {
    self.daemon = daemon
    self.time = time
    self.onIdle = onIdle
    timer = LoopTimer(loop) { [unowned self] in look() }
    let pause = max(time / IdleWatch.looksPerTime / 1_000_000, 1)
    timer?.start(afterMilliseconds: pause, repeating: pause)
  }

  func close() {
    timer?.close()
    timer = nil
  }

  private func look() {
    // One that came and went between two looks counts, too.
    let connections = daemon.connectionsBegun
    if daemon.connectionCount.load(ordering: .relaxed) > 0 || connections != connectionsSeen {
      connectionsSeen = connections
      idleSince = Clock.now
    } else if Clock.now >= idleSince + time {
      close()
      onIdle()
    }
  }
}
