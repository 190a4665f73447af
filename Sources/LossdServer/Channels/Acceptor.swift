import Glibc
import LossdLoop
import LossdSocket
import Synchronization

/// Accepts the connections of one listening socket. The acceptor pauses when descriptors run out or
/// the most connections are open. Clients that wait stay in the kernel's queue and lose nothing.
/// Confined to its loop's thread.
final class Acceptor {
  private static let pauseMilliseconds: UInt64 = 100
  private static let perTurn = 16

  private let socket: ListeningSocket
  private let daemon: DaemonState
  private let connectionsMax: () -> Int
  private let onAccept: (Int32) -> Void
  private let onPause: (String) -> Void
  private var watcher: DescriptorWatcher?
  private var timer: LoopTimer?

  /// `onAccept` owns the descriptor; `onPause` gets the reason, for the log.
  init(
    _ loop: Loop, _ socket: ListeningSocket, _ daemon: DaemonState,
    connectionsMax: @escaping () -> Int, onPause: @escaping (String) -> Void,
    onAccept: @escaping (Int32) -> Void
  ) throws(LoopError) {
    self.socket = socket
    self.daemon = daemon
    self.connectionsMax = connectionsMax
    self.onAccept = onAccept
    self.onPause = onPause
    watcher = try DescriptorWatcher(loop, descriptor: socket.fd) { [unowned self] _ in accept() }
    timer = LoopTimer(loop) { [unowned self] in watcher?.watch(.readable) }
    watcher?.watch(.readable)
  }

  private func accept() {
    for _ in 0..<Acceptor.perTurn {
      if daemon.connectionCount.load(ordering: .relaxed) >= connectionsMax() {
        pause("\(connectionsMax()) connections are open, the most there may be")
        return
      }
      switch socket.accept() {
      case .accepted(let descriptor):
        daemon.connectionCount.add(1, ordering: .relaxed)
        onAccept(descriptor.take())
      case .wouldBlock: return
      case .aborted: continue
      case .exhausted(let number):
        pause(errorText(number))
        return
      case .failed(let number):
        pause(errorText(number))
        return
      }
    }
  }

  private func pause(_ reason: String) {
    onPause("accepting on \(socket.address) pauses: \(reason)")
    watcher?.watch([])
    timer?.start(afterMilliseconds: Acceptor.pauseMilliseconds)
  }

  /// Stops listening and removes the socket's file.
  func close() {
    watcher?.close()
    watcher = nil
    timer?.close()
    timer = nil
    socket.close()
  }
}
