// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {IEscrow} from "../interfaces/IEscrow.sol";

/// @title  Transfers of the native coin and of ERC-20 tokens that fail loudly
/// @notice Tokens that return nothing are taken at their word, tokens that return false or have no code are not.
library SafeToken {
    /// @notice Where burnt money goes.
    address internal constant BURN = 0x000000000000000000000000000000000000dEaD;

    /// @notice Sends `amount` of `token` (zero: native) to `to`.
    function send(address token, address to, uint256 amount) internal {
        bool done;
        if (token == address(0)) {
            // No return data is copied: a payee can't make the payer pay for it.
            assembly ("memory-safe") {
                done := call(gas(), to, amount, 0, 0, 0, 0)
            }
        } else {
            // transfer(address,uint256)
            done = _call(token, abi.encodeWithSelector(0xa9059cbb, to, amount));
        }
        if (!done) revert IEscrow.TransferFailed(token, to, amount);
    }

    /// @notice Takes `amount` of an ERC-20 from `from`; reverts unless exactly that arrives.
    function pull(address token, address from, uint256 amount) internal {
        uint256 before = _balance(token);
        // transferFrom(address,address,uint256)
        bool done = _call(token, abi.encodeWithSelector(0x23b872dd, from, address(this), amount));
        if (!done || _balance(token) != before + amount) revert IEscrow.TransferFailed(token, address(this), amount);
    }

    function _call(address token, bytes memory data) private returns (bool) {
        (bool done, bytes memory answer) = token.call(data);
        if (!done) return false;
        return answer.length == 0 ? token.code.length != 0 : answer.length >= 32 && abi.decode(answer, (uint256)) == 1;
    }

    function _balance(address token) private view returns (uint256) {
        // balanceOf(address)
        (bool done, bytes memory answer) = token.staticcall(abi.encodeWithSelector(0x70a08231, address(this)));
        return done && answer.length >= 32 ? abi.decode(answer, (uint256)) : 0;
    }
}
