import CUV

/// Says when a descriptor can be read or written; reading and writing are its owner's business.
/// Confined to the loop's thread. Close it before the descriptor.
public final class DescriptorWatcher {
  public struct Events: OptionSet, Sendable {
    public let rawValue: Int32

    public init(rawValue: Int32) { self.rawValue = rawValue }

    public static let readable = Events(rawValue: Int32(UV_READABLE.rawValue))
    public static let writable = Events(rawValue: Int32(UV_WRITABLE.rawValue))
    /// The peer writes no more: for who is not reading just now.
    public static let disconnected = Events(rawValue: Int32(UV_DISCONNECT.rawValue))
  }

  private let handle = Handle<uv_poll_t>()
  private var watched: Events = []
  /// Dropped by `close`, which breaks the cycle with the owner.
  private var onReady: ((Events) -> Void)?

  /// `onReady` gets what the descriptor is ready for; all of it when it failed.
  public init(
    _ loop: Loop, descriptor: Int32, onReady: @escaping (Events) -> Void
  ) throws(LoopError) {
    let code = uv_poll_init(loop.raw, handle.raw, descriptor)
    if code != 0 {
      handle.raw.deallocate()
      throw LoopError("watch descriptor \(descriptor)", code)
    }
    self.onReady = onReady
    handle.attach(self)
  }

  /// Watches for these from now on. Free when nothing changes.
  public func watch(_ events: Events) {
    guard events != watched, onReady != nil else { return }
    handle.assertConfined()
    watched = events
    if events.isEmpty {
      uv_poll_stop(handle.raw)
      return
    }
    uv_poll_start(handle.raw, events.rawValue) { raw, status, events in
      guard let watcher = Handle<uv_poll_t>.owner(raw?.pointee.data, DescriptorWatcher.self)
      else { return }
      guard status < 0 else {
        watcher.onReady?(Events(rawValue: events))
        return
      }
      // A failed descriptor reports itself through the next read or write. libuv has stopped
      // watching it: who does not read at once watches anew.
      watcher.watched = []
      watcher.onReady?([.readable, .writable, .disconnected])
    }
  }

  public func close() {
    onReady = nil
    handle.close()
  }
}
