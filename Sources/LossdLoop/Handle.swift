import CUV

/// Memory of one libuv handle and what keeps its Swift owner alive: retained once when the handle
/// is made, released in libuv's close callback.
struct Handle<Raw> {
  let raw: UnsafeMutablePointer<Raw>

  init() { raw = .allocate(capacity: 1) }

  var base: UnsafeMutablePointer<uv_handle_t> {
    UnsafeMutableRawPointer(raw).assumingMemoryBound(to: uv_handle_t.self)
  }

  /// libuv has taken the handle: from now on it owns `owner` too.
  func attach(_ owner: AnyObject) {
    base.pointee.data = Unmanaged.passRetained(owner).toOpaque()
  }

  /// The loop may end although this handle is there.
  func unreference() { uv_unref(base) }

  /// As `Loop.assertConfined`, of the loop that the handle is on.
  @inline(__always)
  func assertConfined() {
    assert(isConfined, "a handle of a loop is used on another thread than the loop's")
  }

  private var isConfined: Bool {
    guard let data = base.pointee.loop?.pointee.data else { return true }
    return Unmanaged<Loop>.fromOpaque(data).takeUnretainedValue().isConfined
  }

  /// Stops it; its memory and its hold on the owner go with libuv's callback.
  func close() {
    guard uv_is_closing(base) == 0 else { return }
    assertConfined()
    uv_close(base) { handle in
      guard let handle else { return }
      if let data = handle.pointee.data { Unmanaged<AnyObject>.fromOpaque(data).release() }
      UnsafeMutableRawPointer(handle).deallocate()
    }
  }

  /// The owner of a handle that libuv calls back for.
  static func owner<Owner: AnyObject>(_ data: UnsafeMutableRawPointer?, _ type: Owner.Type)
    -> Owner?
  {
    data.map { Unmanaged<Owner>.fromOpaque($0).takeUnretainedValue() }
  }
}
